"""What there is to watch or score: the specification of a camera, the registry that all workers read, and who
announces cameras to it.
"""
