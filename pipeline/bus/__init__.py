"""Redis Streams as Oddwatch uses them: names of keys, connections, messages as entries, reading by group, and the
atomic commit under a lease; and the embedded server. Messages and states come in and are sent as entries and hashes;
entries come out again, with what was left pending by workers that died.
"""
