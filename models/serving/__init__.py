"""Model serving: engine choice, loading and tuning. Does not import `models.export` or `models.evaluation`."""
