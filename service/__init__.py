"""The microservice around `models`: HTTP, settings, command line."""
