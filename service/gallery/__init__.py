"""Galleries: a durable SQLite store, and search indices derived from it."""
