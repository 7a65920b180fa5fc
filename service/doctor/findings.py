"""Findings of the doctor."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["warning", "note"]
"""A `warning` endangers people or their data; a `note` is a choice that its operator should know of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend or to know.

    Attributes:
        code: Stable name of the kind of finding, for monitoring.
        level: How grave it is.
        what: What was found, one sentence.
        remedy: How to mend it, one line.
    """

    code: str
    level: Level
    what: str
    remedy: str
