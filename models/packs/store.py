"""Fetched packs on disk, verified before use.

A pack of models has the directories `detector/` (graph and card) and `recognizer/` (an artefact, see
`models.artefact`). A pack of photos holds the published files. `models.export.packs` creates packs.
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
        root: Path of the directory, which may be missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, manifest: Manifest) -> Path:
        """Return the directory of a fetched pack.

        Raises:
            PackMissing: The pack was never fetched.
        """
        path = self.root / manifest.name
        if not path.is_dir():
            raise PackMissing(f"the pack {manifest.name} is missing; run: vultus packs fetch {manifest.name}")
        return path

    def verify(self, manifest: Manifest) -> Path:
        """Verify every byte of a fetched pack and return its directory.

        Raises:
            PackMissing: The pack was never fetched.
            PackDamaged: A file is missing or altered, or was made from other files than the manifest names.
            ArtefactUnfit: The recognizer must not be served.
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
        """Return whether a pack was fetched and is unaltered."""
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
            raise PackDamaged(f"it was made from a different {entry.file} than the manifest names")
        if card.conversion != CONVERSION:
            raise PackDamaged(f"it was made by conversion {card.conversion}; this program is at {CONVERSION}")
