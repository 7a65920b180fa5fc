"""The audit log: who did what and when, in records that cannot be changed unnoticed."""
