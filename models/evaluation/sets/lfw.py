"""Reader of the pair lists of Labeled Faces in the Wild (LFW).

G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, "Labeled Faces in the Wild", TR 07-49, University of Massachusetts,
2007; deep funneling: G. B. Huang, M. Mattar, H. Lee, E. Learned-Miller, NIPS 2012. View 2 consists of 10 folds of 300
mated and 300 non-mated pairs. LFW is an easy set, because it consists of press photos of celebrities.
"""

from pathlib import Path
from typing import NamedTuple

from models.errors import SetUnreadable, SingleClass


class Pair(NamedTuple):
    """A pair of photos.

    Attributes:
        first, second: Paths relative to the image directory.
        mated: Whether both photos show the same subject.
    """

    first: str
    second: str
    mated: bool


def read_pairs(path: Path) -> list[Pair]:
    """Read `pairs.txt`: a header line, then `name i j` for mated and `name i name j` for non-mated pairs.

    Raises:
        SetUnreadable: The file is missing, or a line is not a pair.
        SingleClass: The file lists mated pairs only, or non-mated pairs only.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetUnreadable(f"{path.name} cannot be read as an LFW pair list") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        try:
            if len(fields) == 3:
                pairs.append(Pair(_photo(fields[0], fields[1]), _photo(fields[0], fields[2]), mated=True))
            elif len(fields) == 4:
                pairs.append(Pair(_photo(fields[0], fields[1]), _photo(fields[2], fields[3]), mated=False))
            elif fields and number > 1:
                raise ValueError
        except ValueError as error:
            raise SetUnreadable(f"line {number} of {path.name} is not an LFW pair") from error
    if {pair.mated for pair in pairs} != {True, False}:
        raise SingleClass(f"{path.name} does not list both mated and non-mated pairs")
    return pairs


def photos(pairs: list[Pair]) -> list[str]:
    """Return the paths of all photos of the pairs, each once, sorted."""
    return sorted({name for pair in pairs for name in (pair.first, pair.second)})


def _photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"
