"""Metrics for Prometheus: what the service answers, how fast, and whether what it sees is what was calibrated."""
