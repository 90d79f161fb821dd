"""Keeps the workers of a host alive. What to run comes in (settings, how many of each stage); worker processes run, are
restarted when they die, have what they held freed at once, and are drained at the end.
"""
