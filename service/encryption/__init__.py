"""Encryption at rest: what the galleries hold of people is encrypted under data keys, and these under a master key."""
