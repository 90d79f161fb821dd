"""What an operator sees of a running system: its status is read from Redis when asked for; lines for a person, metrics
for Prometheus and a health page go out. Nothing is kept here.
"""
