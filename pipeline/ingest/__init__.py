"""The decode worker: one killable process for each camera or file reads pictures and publishes snippets under a
lease.
"""
