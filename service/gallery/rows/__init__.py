"""What is read from and written to the tables, each within a transaction of the caller's."""
