"""How often a model errs, measured on the pipeline that serves."""
