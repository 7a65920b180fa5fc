"""Backups of the galleries and keys: made beside a running service, verified, and restored without the erased."""
