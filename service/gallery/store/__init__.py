"""The store: the only truth about galleries, in SQLite."""
