"""How fast work comes, and so for how long it pays to wait for more of it."""

_MEMORY = 0.8  # of the moving average of the time between arrivals; ten arrivals renew it
_LONG_GAP = 10.0  # times the longest wait: beyond, a gap says no more than that nobody came


class Arrivals:
    """How fast entries come, and so how long company is worth waiting for."""

    def __init__(self, longest: float) -> None:
        """Begin without any; `longest` is the most seconds that an entry may wait."""
        self._longest = longest
        self._gap = float("inf")
        self._last = float("-inf")

    def note(self, now: float, count: int, lone: bool = False) -> None:
        """Count entries that came together; `lone` are those that found nobody else's running or waiting.

        They promise no company, however soon they come: a single client sends again as soon as it is answered.
        """
        longest = _LONG_GAP * self._longest
        gap = longest if lone else min((now - self._last) / count, longest)
        self._gap = gap if self._gap == float("inf") else _MEMORY * self._gap + (1 - _MEMORY) * gap
        self._last = now

    def patience(self, now: float, room: int) -> float:
        """Return the seconds that the oldest entry should wait: until the batch is likely full, if one more will come.

        Args:
            now: Of the clock.
            room: Pictures that still fit.
        """
        gap = max(self._gap, now - self._last)  # a rate of long ago promises nothing
        return 0.0 if room <= 0 or gap > self._longest else min(self._longest, gap * room)
