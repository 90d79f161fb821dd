"""Training of temporal models: labelled or normal footage comes in; checkpoints go out. Features are those of live,
kept in a cache.
"""
