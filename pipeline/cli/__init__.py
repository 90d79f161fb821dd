"""The `oddwatch` command: a file or folder for each command, `app` that lists them, and what several share (`session`,
`models`, `progress`). Arguments come in; what a person reads, and an exit code, go out. Libraries are imported when a
command needs them: `oddwatch --help` loads neither torch nor av.
"""
