"""What becomes of alerts once they are in Redis: forwarded in a Cluster, told to sinks, of
which a folder is one. Alert entries come in; deliveries and copies go out.
"""
