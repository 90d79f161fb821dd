"""Who works on what: a lease makes one worker at a time the holder of a task, and an assignment spreads the tasks of a
stage evenly over its live workers. The registry of cameras and the heartbeats of other workers come in; what goes out
are the tasks that this worker holds, kept alive by a thread of their own, and its heartbeat.
"""
