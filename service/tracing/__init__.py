"""Traces of requests by OpenTelemetry, if an address for them is set."""
