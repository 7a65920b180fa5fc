"""Names of kept reports: kind, title and time."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Self, get_args

ReportKind = Literal["evaluation", "calibration"]

SUFFIX = ".json"
_MAX_SLUG = 60  # characters
_TIME = "%Y%m%dT%H%M%S"
_NAME = re.compile(
    rf"({'|'.join(get_args(ReportKind))})-([a-z0-9-]{{1,{_MAX_SLUG}}})-([0-9]{{8}}T[0-9]{{6}})([0-9]{{3}})Z"
)


class ReportName(NamedTuple):
    """The name of a report, which is also that of its file without the suffix.

    Attributes:
        kind: What was measured.
        written: When it was written, in UTC with milliseconds.
        text: The name.
    """

    kind: ReportKind
    written: datetime
    text: str

    @classmethod
    def new(cls, kind: ReportKind, title: str, written: datetime) -> Self:
        """Return the name of a report that is written now."""
        slug = _slug(title.removeprefix(f"{kind.capitalize()} of "))  # the name states the kind once
        return cls(kind, written, f"{kind}-{slug}-{written:{_TIME}}{written.microsecond // 1000:03}Z")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return a name, or None for a text that is not the name of a report, such as a path."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        try:
            time = datetime.strptime(found[3], _TIME).replace(microsecond=1000 * int(found[4]), tzinfo=UTC)
        except ValueError:  # no such day
            return None
        return cls("evaluation" if found[1] == "evaluation" else "calibration", time, text)

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.text + SUFFIX


def _slug(title: str) -> str:
    """Return a title in letters, digits and hyphens of ASCII."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_SLUG].strip("-") or "untitled"
