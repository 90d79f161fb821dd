"""The decode worker: one killable process for each camera or file it holds the lease of. Addresses and files come in;
snippets, gaps and ends go out, in order, onto the camera's `snippets` stream, and its health beside them.
"""
