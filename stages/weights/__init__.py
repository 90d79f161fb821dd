"""Pretrained weights: pinned by SHA-256, fetched or placed by hand, read without running code."""
