"""Reading of requests: the body, the form, the members."""
