"""The console: a page for people who look, try and decide without a program; it speaks only the public API."""
