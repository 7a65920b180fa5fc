"""Find the recognizer and the detector to serve: in one pack, in two, or in a pack and an exported artefact."""

from pathlib import Path
from typing import NamedTuple

from models.errors import ManifestInvalid
from models.packs import Manifest, PackStore
from models.packs.manifest import NOT_STATED, DetectorEntry, RecognizerEntry
from models.packs.store import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY


class Chosen(NamedTuple):
    """What the user chose to serve.

    Attributes:
        pack: Pack of the recognizer and the detector.
        model: Exported artefact whose recognizer replaces that of the pack; None for that of the pack.
        detector: Pack whose detector replaces that of the pack; None for that of the pack.
    """

    pack: Manifest
    model: Path | None = None
    detector: Manifest | None = None

    @property
    def packs(self) -> tuple[Manifest, ...]:
        """The packs of which something is served."""
        of_detector = self.detector or self.pack
        if self.model is not None or of_detector.name == self.pack.name:
            return (of_detector,)
        return self.pack, of_detector


class Served(NamedTuple):
    """The verified models.

    Attributes:
        recognizer: Directory of the recognizer.
        recognizer_pack: Name of its pack, None for an exported artefact.
        recognizer_training_data: Faces on which it was trained, by the manifest.
        detector: Directory of the detector.
        detector_pack: Name of its pack.
        detector_training_data: Faces on which it was trained, by the manifest.
    """

    recognizer: Path
    recognizer_pack: str | None
    recognizer_training_data: str
    detector: Path
    detector_pack: str
    detector_training_data: str


def find_served(store: PackStore, chosen: Chosen) -> Served:
    """Verify the packs of which something is served, and return where the models lie.

    An artefact is not verified.

    Raises:
        ManifestInvalid: A pack does not hold models, or lacks the one that is to be served.
        PackMissing: A pack was never fetched.
        PackDamaged: A file of a pack is missing or altered.
        ArtefactUnfit: The recognizer of a pack must not be served.
    """
    pack, model = chosen.pack, chosen.model
    recognizer = _recognizer_of(pack) if model is None else None
    detector = _detector_of(chosen.detector or pack)
    paths = {manifest.name: store.verify(manifest) for manifest in chosen.packs}
    detector_pack = (chosen.detector or pack).name
    return Served(
        recognizer=model or paths[pack.name] / RECOGNIZER_DIRECTORY,
        recognizer_pack=None if recognizer is None else pack.name,
        recognizer_training_data=NOT_STATED if recognizer is None else recognizer.training_data,
        detector=paths[detector_pack] / DETECTOR_DIRECTORY,
        detector_pack=detector_pack,
        detector_training_data=detector.training_data,
    )


def find_detector(store: PackStore, manifest: Manifest) -> Path:
    """Verify a pack and return the directory of its detector.

    Raises:
        ManifestInvalid: The pack has no detector.
        PackMissing, PackDamaged, ArtefactUnfit: See `find_served`.
    """
    _detector_of(manifest)
    return store.verify(manifest) / DETECTOR_DIRECTORY


def _recognizer_of(manifest: Manifest) -> RecognizerEntry:
    if manifest.recognizer is None:
        raise ManifestInvalid(
            f"{_contents(manifest)}; choose another pack, or an exported artefact with VULTUS_MODEL"
            + (f", and serve this detector with VULTUS_DETECTOR={manifest.name}" if manifest.detector else "")
        )
    return manifest.recognizer


def _detector_of(manifest: Manifest) -> DetectorEntry:
    if manifest.detector is None:
        raise ManifestInvalid(
            f"{_contents(manifest)}; choose the detector of another pack, such as VULTUS_DETECTOR=opencv-zoo"
        )
    return manifest.detector


def _contents(manifest: Manifest) -> str:
    if manifest.kind != "models":
        return f"the pack {manifest.name} holds {manifest.kind}, not models"
    missing, only = ("recognizer", "detector") if manifest.recognizer is None else ("detector", "recognizer")
    return f"the pack {manifest.name} has no {missing}, only a {only}"
