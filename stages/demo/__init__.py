"""The demo's footage: a simulated courtyard, filmed by one camera. A seed comes in; a normal film, a film with planted
anomalies and the manifest of where they are go out.
"""
