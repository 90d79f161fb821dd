"""The loop of a features, temporal or alerting worker. It holds tasks (a camera in a stage), reads the entries of their
input streams, has them processed in batches, and commits output, state and acknowledgement in one step. What comes in
are entries of Redis streams and the stages of `stages/`; what goes out are commits, and dead letters.
"""
