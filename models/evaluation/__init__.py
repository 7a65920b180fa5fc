"""Published protocols, run on the pipeline that serves."""
