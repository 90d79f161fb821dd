"""Trains temporal models. A manifest of labelled videos or normal footage comes in; a checkpoint goes out. Features are
extracted by the extractors that run live, kept in a cache on disk; held-out videos choose the iterate that is kept.
"""
