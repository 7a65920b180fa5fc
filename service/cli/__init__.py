"""The command line program `vultus`."""
