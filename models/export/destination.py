"""The directory that an export writes: what may be replaced there, and where an artefact is made meanwhile."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.artefact.card import CALIBRATION, CARD, Card, read_card
from models.errors import ArtefactUnfit, OutputExists, PackDamaged, StorageFailed
from models.export.retained import ENGINE_SUFFIX


def require_destination(out: Path, source: Path, force: bool) -> None:
    """Refuse a directory that an artefact cannot be written to.

    Args:
        out: Directory of the artefact.
        source: File or directory that is exported.
        force: Whether an artefact at `out` may be replaced.

    Raises:
        OutputExists: `out` exists and `force` is False, or it is neither an artefact nor an empty directory, or it
            contains the source, or it cannot be replaced because it is a mount point or the working directory.
        StorageFailed: A parent of `out` is not a directory, or `out` is a link that leads to itself.
    """
    if out.is_symlink():  # although links are followed
        raise StorageFailed(f"{out} could not be written: it is a link that leads to itself")
    if os.path.ismount(out) or out.name in ("", ".."):
        raise OutputExists(f"{out} is a mount point or the working directory; give a directory in it as --out")
    if out.exists() and not force:
        raise OutputExists(f"{out} exists; give --force to replace it, or another --out")
    if out.exists() and not _is_replaceable(out):
        raise OutputExists(
            f"{out} is not an artefact, or it has other files too, and --force does not replace it; give another --out"
        )
    if out.exists() and out.resolve() in (source.resolve(), *source.resolve().parents):
        raise OutputExists(f"{out} contains the file to export; give another --out")
    blocked = next((parent for parent in out.parents if parent.exists() and not parent.is_dir()), None)
    if blocked is not None:
        raise StorageFailed(f"{out} could not be written: {blocked} is not a directory")


def path_for_unfit(out: Path) -> Path:
    """Return a free or replaceable path beside an existing artefact, for a new artefact that failed its proof."""
    names = (out.with_name(f"{out.name}.unfit{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists() or _is_replaceable(name))


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Create a scratch directory beside `out`, on the same file system, so that the artefact can be renamed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}+", dir=out.parent) as scratch:
        yield Path(scratch)


def _is_replaceable(path: Path) -> bool:
    """Return whether a path is an empty directory, or an artefact without files of the user's own."""
    if not path.is_dir():
        return False
    entries = {entry.name for entry in path.iterdir()}
    if not entries:
        return True
    try:
        files = read_card(path, Card).files
    except (ArtefactUnfit, PackDamaged):
        return False
    own = entries - {CARD, CALIBRATION, *files}
    return not any((path / name).is_dir() for name in entries) and all(name.endswith(ENGINE_SUFFIX) for name in own)
