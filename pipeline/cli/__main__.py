"""`python -m pipeline.cli` is `oddwatch`."""

from pipeline.cli import main

main()
