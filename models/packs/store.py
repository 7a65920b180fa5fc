"""Fetched packs on disk, checked before use.

A pack of models has `detector/` (graph and card) and `recognizer/` (an artefact, see `models.artefact`); a pack of
photos has the files as they were published. `models.export.packs` makes packs.
"""

from pathlib import Path

from models.artefact.card import CONVERSION, DetectorCard, read_card
from models.artefact.integrity import check_files, open_artefact
from models.errors import ArtefactUnfit, PackDamaged, PackMissing
from models.packs.manifest import Manifest

DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY = "detector", "recognizer"


class PackStore:
    """The directory that holds all packs.

    Attributes:
        root: The directory; need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, manifest: Manifest) -> Path:
        """Return the directory of a fetched pack.

        Raises:
            PackMissing: It was never fetched.
        """
        path = self.root / manifest.name
        if not path.is_dir():
            raise PackMissing(f"the pack {manifest.name} is not here; run: vultus packs fetch {manifest.name}")
        return path

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

    def is_intact(self, manifest: Manifest) -> bool:
        """Return whether a pack was fetched and every byte of it is right."""
        try:
            self.verify(manifest)
        except (PackMissing, PackDamaged, ArtefactUnfit):
            return False
        return True


def _check_models(path: Path, manifest: Manifest) -> None:
    recognizer, _ = open_artefact(path / RECOGNIZER_DIRECTORY)
    detector = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
    check_files(path / DETECTOR_DIRECTORY, detector.files)
    for entry, card in ((manifest.recognizer, recognizer), (manifest.detector, detector)):
        if entry is not None and manifest.file(entry.file).sha256 != card.weights:
            raise PackDamaged(f"it was made from another {entry.file}")
        if card.conversion != CONVERSION:
            raise PackDamaged(f"conversion {card.conversion} made it; this program is at {CONVERSION}")
