"""The report of `score` and `evaluate`. Score tables, alerts with their pictures and metrics come in; one HTML file
that needs nothing else goes out. Each video is reduced to a few kilobytes first, so a report of many hours stays small.
"""
