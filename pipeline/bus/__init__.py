"""Redis Streams as Oddwatch uses them: keys, ids, entries, connections, the atomic commit, the embedded server.
Messages come in; entries go out, and back.
"""
