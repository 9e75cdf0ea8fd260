"""`python -m clocknext_transports.cli`: the same as `clocknext`."""

from clocknext_transports.cli import main

main()
