"""Checks of an artefact before it is used: its digests, its layout and its parity proof."""

import json
from pathlib import Path
from typing import Any

from models.artefact.card import PROOF, Card, read_card
from models.artefact.digests import file_digest
from models.errors import ArtefactUnfit, PackDamaged


def check_files(directory: Path, files: dict[str, str]) -> None:
    """Compare files with their digests.

    Raises:
        PackDamaged: One is absent or altered; the message names it.
    """
    for name, digest in files.items():
        path = directory / name
        if not path.is_file():
            raise PackDamaged(f"{name} in {directory.name} is absent")
        if file_digest(path) != digest:
            raise PackDamaged(f"{name} in {directory.name} was altered: its SHA-256 is not the one recorded")


def open_artefact(directory: Path) -> tuple[Card, dict[str, Any]]:
    """Check every file of an artefact and its proof, and return card and proof.

    Raises:
        PackDamaged: A file is absent or altered.
        ArtefactUnfit: The proof did not pass, or is not there, or the artefact is not for this service.
    """
    card = read_card(directory, Card)
    check_files(directory, card.files)
    if card.layout != "vultus":
        raise ArtefactUnfit(f"{directory.name} has the layout {card.layout}, which is not for this service")
    missing = {*card.graphs.values(), PROOF} - set(card.files)
    if missing:
        raise ArtefactUnfit(f"the card in {directory.name} does not cover {', '.join(sorted(missing))}")
    proof = json.loads((directory / PROOF).read_text())
    if proof.get("passed") is not True:
        raise ArtefactUnfit(f"the parity proof in {directory.name} did not pass; the model must not be served")
    return card, proof
