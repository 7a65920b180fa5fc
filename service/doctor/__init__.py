"""The doctor: what of an installation is open, unprotected, unsaved or out of date, and how to mend it."""
