"""Temporal models: how odd each frame is. Features (or snippets) of one camera come in, in order, with the model's
state of that camera; raw scores go out, one per kept frame, with the quantiles of normal scores that alerting
calibrates by.
"""
