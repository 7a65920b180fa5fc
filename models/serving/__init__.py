"""What runs: the choice of engine and precision, loading, tuning. Imports nothing that exports or evaluates."""
