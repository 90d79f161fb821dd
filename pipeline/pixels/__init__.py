"""Pixels through shared memory, where the decoder and all readers are on one host. A decoder's snippets come in and
are written once into slots of a ring; references go out with the messages, and readers find the pixels by them or get
a gap. What dead processes left is swept away.
"""
