"""Oddwatch's streaming runtime: moves messages between stages over Redis Streams, and keeps the promises."""

__version__ = "0.1.0"
