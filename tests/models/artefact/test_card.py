import json
import shutil
from pathlib import Path

import pytest

from models.artefact.card import CARD, PROOF, Card, read_card, write_card
from models.artefact.digests import file_digest, value_digest
from models.artefact.integrity import open_artefact
from models.errors import ArtefactUnfit, PackDamaged
from models.packs import PackStore, find_manifest


@pytest.fixture
def artefact(store: PackStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store.path(find_manifest("opencv-zoo")) / "recognizer", tmp_path / "recognizer"))


def reseal(directory: Path, **changes: object) -> None:
    card = read_card(directory, Card)
    members = {name: getattr(card, name) for name in Card.__slots__}
    write_card(directory, Card(**{**members, **changes}))


def test_a_model_whose_proof_did_not_pass_is_not_served(artefact: Path) -> None:
    (artefact / PROOF).write_text(json.dumps({"passed": False}))
    files = {**read_card(artefact, Card).files, PROOF: file_digest(artefact / PROOF)}
    reseal(artefact, files=files)
    with pytest.raises(ArtefactUnfit, match="parity"):
        open_artefact(artefact)


def test_a_card_that_does_not_cover_the_proof_is_unfit(artefact: Path) -> None:
    files = {name: digest for name, digest in read_card(artefact, Card).files.items() if name != PROOF}
    reseal(artefact, files=files)
    with pytest.raises(ArtefactUnfit, match=PROOF):
        open_artefact(artefact)


def test_a_card_of_a_later_version_is_refused(artefact: Path) -> None:
    content = json.loads((artefact / CARD).read_text())
    del content["digest"]
    content["version"] = 99
    content["digest"] = value_digest(content)
    (artefact / CARD).write_text(json.dumps(content))
    with pytest.raises(ArtefactUnfit, match="version 99"):
        open_artefact(artefact)


def test_a_card_with_other_members_is_damaged(artefact: Path) -> None:
    content = json.loads((artefact / CARD).read_text())
    del content["digest"], content["conversion"]
    content["digest"] = value_digest(content)
    (artefact / CARD).write_text(json.dumps(content))
    with pytest.raises(PackDamaged, match="other members"):
        open_artefact(artefact)


def test_an_edited_card_is_damaged(artefact: Path) -> None:
    text = (artefact / CARD).read_text()
    (artefact / CARD).write_text(text.replace("arcface-112", "arcface-112x96"))
    with pytest.raises(PackDamaged, match="altered"):
        open_artefact(artefact)


def test_the_contract_depends_on_everything_that_changes_an_embedding(artefact: Path) -> None:
    card = read_card(artefact, Card)
    ids = {card.contract_id("yunet"), card.contract_id("scrfd")}
    for change in ({"weights": "1" * 64}, {"template": "arcface-112x96"}, {"preprocessing": {"color": "bgr"}}):
        reseal(artefact, **change)
        ids.add(read_card(artefact, Card).contract_id("yunet"))
        reseal(artefact, weights=card.weights, template=card.template, preprocessing=card.preprocessing)
    assert len(ids) == 5
    reseal(artefact, licence="another", name="another")
    assert read_card(artefact, Card).contract_id("yunet") == card.contract_id("yunet")
