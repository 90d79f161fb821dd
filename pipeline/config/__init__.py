"""The configuration: one YAML file comes in; a frozen, checked `Config` goes out, or a line that names file, key and
remedy. The model's own sentences become the reference file and page.
"""
