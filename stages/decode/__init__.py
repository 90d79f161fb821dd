"""The decode stage: packets to pictures to snippets, each picture at its place in time, damaged ones as gaps."""
