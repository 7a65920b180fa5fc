"""Keys of programs that use the service."""
