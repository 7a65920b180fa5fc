"""Reports of evaluations: one document format for the terminal, JSON and HTML."""
