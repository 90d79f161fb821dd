"""The `oddwatch` command: each file or folder here is a command or two.

Arguments come in; what a person reads, and an exit code, go out. Libraries are imported when a command needs them:
`oddwatch --help` loads neither torch nor av.
"""
