"""Measurement of a model's error rates, on the pipeline that also serves requests."""
