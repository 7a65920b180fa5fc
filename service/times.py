"""Times as the service writes them."""

from datetime import UTC, datetime


def written_time(seconds: float) -> str:
    """Write a time, given in seconds since 1970, as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
