"""The pair lists of Labeled Faces in the Wild.

G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, "Labeled Faces in the Wild", TR 07-49, University of Massachusetts,
2007; deep funneling: G. B. Huang, M. Mattar, H. Lee, E. Learned-Miller, NIPS 2012. View 2 is 10 folds of 300 mated and
300 non-mated pairs. LFW is easy: faces of celebrities in press photos.
"""

from pathlib import Path
from typing import NamedTuple

from models.errors import OneClassOnly, SetUnreadable


class Pair(NamedTuple):
    """Two photos by path, relative to the image directory."""

    first: str
    second: str
    mated: bool


def read_pairs(path: Path) -> list[Pair]:
    """Read `pairs.txt`: a header line, then `name i j` for mated and `name i name j` for non-mated pairs.

    Raises:
        SetUnreadable: The file is absent, or a line is of neither kind.
        OneClassOnly: There are mated pairs only, or non-mated pairs only.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetUnreadable(f"{path.name} cannot be read as a list of pairs as LFW has it") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        try:
            if len(words) == 3:
                pairs.append(Pair(_photo(words[0], words[1]), _photo(words[0], words[2]), mated=True))
            elif len(words) == 4:
                pairs.append(Pair(_photo(words[0], words[1]), _photo(words[2], words[3]), mated=False))
            elif words and number > 1:
                raise ValueError
        except ValueError as error:
            raise SetUnreadable(f"line {number} of {path.name} is no pair as LFW writes them") from error
    if {pair.mated for pair in pairs} != {True, False}:
        raise OneClassOnly(f"{path.name} lists no mated or no non-mated pairs")
    return pairs


def photos(pairs: list[Pair]) -> list[str]:
    """List every photo of the pairs once."""
    return sorted({name for pair in pairs for name in (pair.first, pair.second)})


def _photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"
