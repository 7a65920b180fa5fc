"""Schemas of requests and responses, and the forms in which they are written."""
