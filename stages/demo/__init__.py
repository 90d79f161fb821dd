"""The demo's footage: a simulated courtyard, filmed. A seed comes in; a normal film and one with planted oddities go
out.
"""
