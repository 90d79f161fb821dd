"""What becomes of alerts once they are in Redis: forwarded in a Cluster, written to folders. Alert entries come in;
files and copies go out.
"""
