"""Error rates from similarities (ISO/IEC 19795-1), as the official evaluations compute them."""
