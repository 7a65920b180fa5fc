"""The SQLite store, the single source of truth about galleries."""
