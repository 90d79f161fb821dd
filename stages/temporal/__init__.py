"""Temporal models: features or snippets come in; raw scores go out, one a frame."""
