"""One self-contained page about scored footage."""
