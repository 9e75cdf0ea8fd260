"""`python -m clocknext`: the same as `clocknext`."""

from clocknext_transports.cli import main

main()
