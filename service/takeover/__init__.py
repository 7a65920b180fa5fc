"""Taking over what another product has, through its own API."""
