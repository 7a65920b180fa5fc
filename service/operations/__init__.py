"""The use cases, independent of HTTP: the API and the command line call the same functions."""
