"""Results for people: one document form, shown on a terminal, as JSON and as an HTML page."""
