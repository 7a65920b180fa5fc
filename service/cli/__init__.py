"""The command `vultus`."""
