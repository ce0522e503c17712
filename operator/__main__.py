"""`python -m kip`."""

from kip.cli import main

main()
