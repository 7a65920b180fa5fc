import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.artefact.card import CARD, PROOF, Card, read_card, write_card
from models.artefact.digests import file_digest, value_digest
from models.artefact.integrity import open_artefact
from models.errors import ArtefactUnfit, PackDamaged, VultusError
from models.packs import PackStore, find_manifest
from models.runtime import RuntimeOptions
from models.serving.choice import proven_runtimes
from models.serving.load import load_models
from service.cli.inspect import _describe_artefact


@pytest.fixture
def artefact(store: PackStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store.path(find_manifest("opencv-zoo")) / "recognizer", tmp_path / "recognizer"))


@pytest.fixture
def originals(artefact: Path) -> tuple[dict[str, Any], Any]:
    card = json.loads((artefact / CARD).read_text())
    del card["digest"]
    return card, json.loads((artefact / PROOF).read_text())


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


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, "\ud800", "a\0b", "../x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def edited(document: Any, drawn: st.DataObject) -> Any:
    """Return a document with a member removed, replaced or added, at a drawn depth."""
    if isinstance(document, dict | list) and document and drawn.draw(st.integers(0, 3)):
        copy = dict(document) if isinstance(document, dict) else list(document)
        key = drawn.draw(st.sampled_from(list(copy) if isinstance(copy, dict) else range(len(copy))))
        if drawn.draw(st.integers(0, 4)) == 0:
            del copy[key]
        else:
            copy[key] = edited(copy[key], drawn)
        return copy
    return drawn.draw(ODD)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_edited_card_or_proof_with_new_digests_ends_in_a_sentence(
    artefact: Path, originals: tuple[dict[str, Any], Any], drawn: st.DataObject
) -> None:
    card, proof = originals
    content = dict(card)
    if drawn.draw(st.booleans()):
        text = json.dumps(edited(proof, drawn))
        content["files"] = {**card["files"], PROOF: hashlib.sha256(text.encode()).hexdigest()}
    else:
        text, content = json.dumps(proof, indent=2) + "\n", edited(content, drawn)
    (artefact / PROOF).write_text(text)
    content = {**content, "digest": value_digest(content)} if isinstance(content, dict) else content
    (artefact / CARD).write_text(json.dumps(content))
    try:
        read, proven_here = open_artefact(artefact)
        json.dumps(asdict(read), allow_nan=False).encode()
        read.contract_id("yunet")
        proven_runtimes(read, proven_here, RuntimeOptions())
        _describe_artefact(artefact)
    except VultusError as error:
        assert str(error)


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


def test_crops_that_this_program_does_not_make_are_unfit(store: PackStore, artefact: Path) -> None:
    for changes in ({"template": "arcface-999"}, {"template": "arcface-112", "height": 96}):
        reseal(artefact, **changes)
        with pytest.raises(ArtefactUnfit, match="which are unknown"):
            load_models(store, find_manifest("opencv-zoo"), model=artefact)
