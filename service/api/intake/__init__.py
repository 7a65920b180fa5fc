"""Reading a request: its body, its form, its members."""
