"""Packs on disk: fetched into place in one step, checked before use, never repaired silently.

A pack of models becomes `detector/` (graph and card) and `recognizer/` (an artefact, see `models.artefact`). What was
published is brought to the contract of `models.graph` once, here, and the result is compared with the published graph.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.artefact import DetectorCard, check_files, open_artefact, read_card
from models.directories import replace_directory
from models.errors import ArtefactUnfit, PackDamaged, PackMissing, StorageFailed
from models.graph import CONVERSION
from models.packs.build import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY, build_models
from models.packs.manifest import Manifest
from models.packs.sources import Fetcher, Progress

_SCRATCH = "+"  # no pack's name has it, so that `own` does not sweep what is being fetched for `own-larger`


class PackStore:
    """The directory that holds all packs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, manifest: Manifest) -> Path:
        """Return the directory of a fetched pack.

        Raises:
            PackMissing: It was never fetched.
        """
        path = self._root / manifest.name
        if not path.is_dir():
            raise PackMissing(f"the pack {manifest.name} is not here; run: vultus packs fetch {manifest.name}")
        return path

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Keep other processes from fetching the same pack, and sweep what a killed fetch left behind."""
        with (self._root / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for stale in self._root.glob(f".{name}{_SCRATCH}*"):
                shutil.rmtree(stale, ignore_errors=True)
            yield

    def verify(self, manifest: Manifest) -> Path:
        """Check every byte of a fetched pack and return its directory.

        Raises:
            PackMissing: It was never fetched.
            PackDamaged: A file is absent, altered, or made from other files than the manifest now names.
            ArtefactUnfit: Its recognizer must not be served.
        """
        path = self.path(manifest)
        try:
            if manifest.kind == "photos":
                check_files(path, {file.name: file.sha256 for file in manifest.files})
            else:
                _check_models(path, manifest)
        except (PackDamaged, ArtefactUnfit) as error:
            raise type(error)(f"the pack {manifest.name}: {error}; run: vultus packs fetch {manifest.name}") from error
        return path

    def fetch(self, manifest: Manifest, progress: Progress, mirror: Path | None = None) -> Path:
        """Fetch a pack unless it is here and whole, and return its directory.

        The old directory stays until the new one is complete.

        Raises:
            SourceUnavailable: A file was not to be had.
            ArtefactUnfit: The converted graph does not answer like the published one.
            StorageFailed: The file system refused to write.
        """
        if self._is_whole(manifest):
            return self.path(manifest)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._lock(manifest.name):
                if not self._is_whole(manifest):  # another process may have fetched it meanwhile
                    self._fetch(manifest, progress, mirror)
        except OSError as error:
            raise StorageFailed(f"the pack {manifest.name} could not be written: {error.strerror or error}") from error
        return self.path(manifest)

    def _is_whole(self, manifest: Manifest) -> bool:
        try:
            self.verify(manifest)
        except (PackMissing, PackDamaged, ArtefactUnfit):
            return False
        return True

    def _fetch(self, manifest: Manifest, progress: Progress, mirror: Path | None) -> None:
        with tempfile.TemporaryDirectory(prefix=f".{manifest.name}{_SCRATCH}", dir=self._root) as scratch:
            new = Path(scratch, "pack")
            published = fetch_published(manifest, Path(scratch, "published"), progress, mirror)
            if manifest.kind == "photos":
                published.rename(new)
            else:
                new.mkdir()
                progress("converting and comparing", 0, None)
                build_models(manifest, published, new)
            replace_directory(new, self._root / manifest.name, Path(scratch))


def fetch_published(manifest: Manifest, target: Path, progress: Progress, mirror: Path | None = None) -> Path:
    """Fetch the files of a pack as they were published, into a new directory.

    Raises:
        SourceUnavailable: A file was not to be had.
    """
    target.mkdir()
    with Fetcher(progress, mirror) as fetcher:
        for file in manifest.files:
            fetcher.fetch(file, target)
    return target


def _check_models(path: Path, manifest: Manifest) -> None:
    recognizer, _ = open_artefact(path / RECOGNIZER_DIRECTORY)
    detector = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
    check_files(path / DETECTOR_DIRECTORY, detector.files)
    for entry, card in ((manifest.recognizer, recognizer), (manifest.detector, detector)):
        if entry is not None and manifest.file(entry.file).sha256 != card.weights:
            raise PackDamaged(f"it was made from another {entry.file}")
        if card.conversion != CONVERSION:
            raise PackDamaged(f"conversion {card.conversion} made it; this program is at {CONVERSION}")
