"""Fetched packs on disk, verified before use.

A pack of models has the directories `detector/` (graph and card) and `recognizer/` (an artefact, see
`models.artefact`), or one of them. A pack of photos holds the published files. `models.export.packs` creates packs.
"""

from pathlib import Path

from models.artefact.card import CONVERSION, Card, DetectorCard, read_card
from models.artefact.integrity import check_files, open_artefact
from models.errors import ArtefactUnfit, ManifestInvalid, PackDamaged, PackMissing, PackUnknown
from models.packs.manifest import (
    DetectorEntry,
    Manifest,
    RecognizerEntry,
    find_manifest,
    list_manifests,
    manifest_text,
    read_manifest,
)

DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY = "detector", "recognizer"


class PackStore:
    """The directory that holds all packs.

    Attributes:
        root: Path of the directory, which may be missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifests(self) -> list[Manifest]:
        """Return the built-in manifests and those of added packs, each sorted by name."""
        return [*list_manifests(), *(read_manifest(path) for path in sorted(self.root.glob("*.toml")))]

    def find(self, name: str) -> Manifest:
        """Return a manifest by the name of a built-in or added pack, or from a path that ends in `.toml`.

        Raises:
            PackUnknown: No pack has that name.
            ManifestInvalid: The file is not a manifest.
        """
        added = self.root / f"{name}.toml"
        if Path(name).name == name and added.is_file():
            return read_manifest(added)
        try:
            return find_manifest(name)
        except PackUnknown as error:
            names = ", ".join(manifest.name for manifest in self.manifests())
            raise PackUnknown(f"unknown pack {name!r}; available packs: {names}") from error

    def add(self, manifest: Manifest) -> None:
        """Store the manifest of a pack, so that `find` finds it; one that was added before under its name is replaced.

        Raises:
            ManifestInvalid: A built-in pack has the name.
            OSError: The file system refused to write.
        """
        require_new_name(manifest)
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / f".{manifest.name}.toml.part"
        part.write_text(manifest_text(manifest))
        part.replace(self.root / f"{manifest.name}.toml")

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


def require_new_name(manifest: Manifest) -> None:
    """Refuse the name of a built-in pack.

    Raises:
        ManifestInvalid: A built-in pack has it.
    """
    if manifest.name in {built_in.name for built_in in list_manifests()}:
        raise ManifestInvalid(f"{manifest.name} is the name of a built-in pack; choose another with --name")


def _check_models(path: Path, manifest: Manifest) -> None:
    made: list[tuple[DetectorEntry | RecognizerEntry, DetectorCard | Card]] = []
    if manifest.recognizer is not None:
        made.append((manifest.recognizer, open_artefact(path / RECOGNIZER_DIRECTORY)[0]))
    if manifest.detector is not None:
        detector = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
        check_files(path / DETECTOR_DIRECTORY, detector.files)
        made.append((manifest.detector, detector))
    for entry, card in made:
        if manifest.file(entry.file).sha256 != card.weights:
            raise PackDamaged(f"it was made from a different {entry.file} than the manifest names")
        if card.conversion != CONVERSION:
            raise PackDamaged(f"it was made by conversion {card.conversion}; this program is at {CONVERSION}")
