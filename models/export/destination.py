"""The directory that an export writes: what may be replaced there, and where an artefact is made meanwhile."""

import fcntl
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from models.artefact.card import CALIBRATION, CARD, Card, read_card
from models.artefact.directories import REPLACED
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
    """Create a scratch directory beside `out`, on the same file system, so that the artefact can be renamed.

    It is locked while the block runs, so that `remove_stale_scratch` of another export leaves it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _locked(out.parent):
            directory = tempfile.TemporaryDirectory(prefix=_scratch_prefix(out), dir=out.parent)
            scratch = Path(stack.enter_context(directory))
            stack.enter_context(_locked(scratch))
        yield scratch


def remove_stale_scratch(out: Path) -> None:
    """Remove the scratch directories of killed exports to `out`, because photos of faces may be in them.

    An artefact that a killed export moved there and did not replace is moved back.

    Raises:
        OSError: The directory of `out` cannot be read.
    """
    if not out.parent.is_dir():
        return
    is_scratch = re.compile(re.escape(_scratch_prefix(out)) + "[a-z0-9_]{8}").fullmatch  # as `tempfile` names them
    with _locked(out.parent):
        for path in [path for path in out.parent.iterdir() if is_scratch(path.name) and not path.is_symlink()]:
            with suppress(OSError), _locked(path, wait=False) as is_stale:
                if is_stale and (path / REPLACED).exists() and not out.exists():
                    (path / REPLACED).rename(out)
                if is_stale:
                    shutil.rmtree(path, ignore_errors=True)


def _scratch_prefix(out: Path) -> str:
    return f".{out.name}+"


@contextmanager
def _locked(directory: Path, wait: bool = True) -> Iterator[bool]:
    """Lock a directory against other processes, and yield whether it is locked; some file systems have no locks."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)


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
