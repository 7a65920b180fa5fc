"""The inference core: photos in, faces with embeddings out. Knows nothing of HTTP, galleries or tenants."""
