"""The configuration: one YAML file comes in; a frozen, checked `Config` goes out, or one line that names file, key
and remedy.
"""
