"""Evaluation protocols: published ones, and those for the user's own pictures."""
