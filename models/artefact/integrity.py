"""Checks of an artefact before use: digests, layout and parity proof."""

import json
from pathlib import Path
from typing import Any

from models.artefact.card import CALIBRATION, PROOF, Card, read_card
from models.artefact.digests import file_digest
from models.errors import ArtefactUnfit, PackDamaged


def check_files(directory: Path, files: dict[str, str]) -> None:
    """Compare the files of a directory with their SHA-256.

    Raises:
        PackDamaged: A file is missing or altered; the message names it.
    """
    for name, digest in files.items():
        path = directory / name
        if not path.is_file():
            raise PackDamaged(f"{name} in {directory.name} is missing")
        if file_digest(path) != digest:
            raise PackDamaged(f"{name} in {directory.name} was altered: its SHA-256 differs from the recorded one")


def open_artefact(directory: Path) -> tuple[Card, dict[str, Any]]:
    """Verify every file of an artefact and its parity proof, and return card and proof.

    Raises:
        PackDamaged: A file is missing or altered.
        ArtefactUnfit: The proof is missing or did not pass, or the artefact has a layout that is not served.
    """
    card = read_card(directory, Card)
    # `vultus engine` once listed the calibration, which `vultus calibrate` replaces; it is bound by the contract id
    check_files(directory, {name: digest for name, digest in card.files.items() if name != CALIBRATION})
    if card.layout != "vultus":
        raise ArtefactUnfit(f"{directory.name} has the layout {card.layout}; this service requires the layout vultus")
    missing = {*card.graphs.values(), PROOF} - set(card.files)
    if missing:
        raise ArtefactUnfit(f"the card in {directory.name} does not cover {', '.join(sorted(missing))}")
    proof = json.loads((directory / PROOF).read_text())
    if proof.get("passed") is not True:
        raise ArtefactUnfit(f"the parity proof in {directory.name} did not pass; the model must not be served")
    return card, proof
