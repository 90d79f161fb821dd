"""The loop of a features, temporal or alerting worker: entries of the tasks it holds come in, are processed in
batches, and are committed: output, state and acknowledgement in one step.
"""
