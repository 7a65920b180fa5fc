"""The microservice around `models`: HTTP API, settings, command line."""
