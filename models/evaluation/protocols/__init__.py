"""Published protocols, and those for the user's own pictures."""
