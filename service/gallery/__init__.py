"""Galleries: a durable store (SQLite, the truth) and what is searched (FAISS, derived from it)."""
