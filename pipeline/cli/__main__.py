"""`python -m pipeline.cli` is `oddwatch`."""

from pipeline.cli.app import main

main()
