"""Reports of measurements that commands keep in the data directory and the service shows."""
