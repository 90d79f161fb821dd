"""The kinds of source, one file each: a video file, a folder of pictures, a live camera. Each gives pictures with
their time.
"""
