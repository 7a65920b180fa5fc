"""Rates and lifetimes of keys as people write them: `50/s`, `90d`."""

import re
from typing import NamedTuple

from service.errors import KeyInvalid

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(?P<count>[1-9][0-9]{0,8})/(?P<unit>s|min|h|d)")
_LIFETIME = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>s|min|h|d)")


class Rate(NamedTuple):
    """A number of requests in a window of time.

    Attributes:
        requests: Maximum number of requests.
        window_s: Length of the window in seconds.
    """

    requests: int
    window_s: int


def parse_rate(text: str) -> Rate:
    """Parse a rate.

    Raises:
        KeyInvalid: The text is not a rate.
    """
    parts = _RATE.fullmatch(text)
    if parts is None:
        raise KeyInvalid(f"{text[:40]!r} is not a rate; write a number of requests and a unit, as 50/s, 100/min or 9/d")
    return Rate(int(parts["count"]), _SECONDS[parts["unit"]])


def parse_lifetime(text: str) -> float:
    """Parse a time, and return its seconds.

    Raises:
        KeyInvalid: The text is not a time.
    """
    parts = _LIFETIME.fullmatch(text)
    if parts is None:
        raise KeyInvalid(f"{text[:40]!r} is not a time; write a number and a unit, as 30min, 12h or 90d")
    return float(int(parts["count"]) * _SECONDS[parts["unit"]])
