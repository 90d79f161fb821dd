"""Container files, before anything is decoded. A path or address comes in; an open container with its video stream goes
out, or one line that says why not; and, from the headers alone, the frames it promises and the bytes it lacks.
"""
