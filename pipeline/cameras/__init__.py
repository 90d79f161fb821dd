"""What there is to watch or score. A configuration and its checkpoints come in; the specification of each camera goes
out, into the registry in Redis that all workers read. A live camera is announced for as long as somebody names it.
"""
