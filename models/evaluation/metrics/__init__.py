"""Error rates from similarities (ISO/IEC 19795-1), computed as in the official evaluations."""
