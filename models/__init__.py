"""The inference core: turns photos into faces with embeddings, independent of HTTP, galleries and tenants."""
