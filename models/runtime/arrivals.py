"""The rate at which work arrives, and how long a batch should wait for more."""

_DECAY = 0.8  # weight of the past in the moving average of the gaps; ten arrivals replace nine tenths of it
_MAX_GAP = 10.0  # upper limit of a gap, in multiples of the maximum wait


class Arrivals:
    """Estimator of how long a batch should wait for more entries, based on their arrival rate."""

    def __init__(self, longest: float) -> None:
        """Start without arrivals; `longest` is the maximum wait of an entry in seconds."""
        self._longest = longest
        self._gap = float("inf")
        self._last = float("-inf")

    def note(self, now: float, count: int, alone: bool = False) -> None:
        """Record entries that arrived together.

        Args:
            now: Time of the clock in seconds.
            count: Number of entries.
            alone: Whether no other entry was running or queued. Such an arrival counts as the longest gap, because a
                single client sends its next request as soon as it has the answer.
        """
        longest = _MAX_GAP * self._longest
        gap = longest if alone else min((now - self._last) / count, longest)
        self._gap = gap if self._gap == float("inf") else _DECAY * self._gap + (1 - _DECAY) * gap
        self._last = now

    def wait_s(self, now: float, room: int) -> float:
        """Return the seconds that the oldest entry should wait for the batch to fill, 0 if no other entry is expected.

        Args:
            now: Time of the clock in seconds.
            room: Number of images that still fit into the batch.
        """
        gap = max(self._gap, now - self._last)  # a long time since the last arrival means that the load has ended
        return 0.0 if room <= 0 or gap > self._longest else min(self._longest, gap * room)
