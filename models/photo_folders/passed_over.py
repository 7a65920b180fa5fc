"""What was passed over in a directory, counted by reason."""

from collections.abc import Iterable
from enum import Enum

from models.text import printable

_EXAMPLES = 3  # names that are shown for each reason


class Reason(Enum):
    """Why an entry of a directory was passed over, for one entry and for several."""

    SYSTEM_FOLDER = "system folder", "system folders"
    SYSTEM_FILE = "system file", "system files"
    NO_PHOTO = "file that is no photo", "files that are no photos"
    RAW = "raw file of a camera", "raw files of cameras"
    LOOSE = "photo outside of the folders", "photos outside of the folders"
    LINK = "link to a folder", "links to folders"
    BROKEN_LINK = "link that leads nowhere", "links that lead nowhere"
    SPECIAL = "pipe, socket or device", "pipes, sockets or devices"
    UNREADABLE = "file or folder that cannot be read", "files or folders that cannot be read"


class PassedOver:
    """Counts what was passed over, and keeps some of the names.

    Attributes:
        counts: Number of entries by reason.
    """

    def __init__(self) -> None:
        """Begin with nothing passed over."""
        self.counts: dict[Reason, int] = {}
        self._names: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, name: str) -> None:
        """Count an entry.

        Args:
            reason: Why the entry was passed over.
            name: Name by which the user finds it.
        """
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) <= _EXAMPLES and name not in names:
            names.append(name)

    @property
    def unreadable(self) -> int:
        """Number of files and folders that could not be read."""
        return self.counts.get(Reason.UNREADABLE, 0)

    def __str__(self) -> str:
        """Return a sentence without a full stop; an empty one if nothing was passed over."""
        parts = [
            f"{count:,} {reason.value[count > 1]} ({listed(self._names[reason], _EXAMPLES)})"
            for reason in Reason
            if (count := self.counts.get(reason))
        ]
        return f"passed over: {', '.join(parts)}" if parts else ""


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names separated by commas, with an ellipsis if there are more than `most`."""
    known = list(names)
    return ", ".join(printable(name) for name in known[:most]) + (", …" if len(known) > most else "")
