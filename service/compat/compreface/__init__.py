"""The REST API of CompreFace 1.2 (`/api/v1`): recognition, detection and verification."""
