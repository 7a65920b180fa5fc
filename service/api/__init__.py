"""The HTTP surface, version 1: one router for each resource."""
