"""Detector and recognizer chosen apart: what is verified, what is served, and what is said if one is missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ManifestInvalid, PackDamaged, PackMissing
from models.export.insightface_directory import Wanted, read_directory
from models.export.packs import add_pack
from models.packs import Manifest, PackStore, find_manifest
from models.serving.load import load_detector, load_models
from models.serving.models import Models
from models.serving.served import Chosen, find_detector, find_served
from models.types import no_progress

ZOO = find_manifest("opencv-zoo")


@pytest.fixture(scope="module")
def packs(shared: Path, store: PackStore, tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    """The default pack, one with only a detector, and one with only a recognizer."""
    packs = PackStore(tmp_path_factory.mktemp("packs"))
    shutil.copytree(store.root / ZOO.name, packs.root / ZOO.name)
    for name, file in (("scrfd", "scrfd_500m_bnkps.onnx"), ("foamliu", "mobilefacenet_foamliu_dynamic.onnx")):
        directory = tmp_path_factory.mktemp(name)
        shutil.copy(shared / "models" / file, directory)
        add_pack(packs, read_directory(directory, Wanted(name)).manifest, no_progress)
    return packs


@pytest.fixture(scope="module")
def scrfd(packs: PackStore) -> Manifest:
    return packs.find("scrfd")


@pytest.fixture(scope="module")
def foamliu(packs: PackStore) -> Manifest:
    return packs.find("foamliu")


def loaded(packs: PackStore, chosen: Chosen) -> Models:
    models = load_models(packs, chosen.pack, model=chosen.model, detector_pack=chosen.detector)
    models.close()
    return models


def test_a_pack_may_have_only_a_detector_or_only_a_recognizer(
    packs: PackStore, scrfd: Manifest, foamliu: Manifest
) -> None:
    assert (scrfd.recognizer, foamliu.detector) == (None, None)
    for manifest, directory in ((scrfd, "detector"), (foamliu, "recognizer")):
        assert [path.name for path in packs.verify(manifest).iterdir()] == [directory]


def test_the_detector_of_another_pack_is_served_and_has_a_contract_of_its_own(
    packs: PackStore, scrfd: Manifest
) -> None:
    models = loaded(packs, Chosen(ZOO, detector=scrfd))
    assert (models.recognizer_pack, models.detector_pack, models.detector.family) == ("opencv-zoo", "scrfd", "scrfd")
    assert models.contract_id == models.recognizer.contract_id("scrfd") != models.recognizer.contract_id("yunet")
    assert models.calibration is None
    assert "measured for embedding contract" in str(models.uncalibrated_because)
    assert models.detector_training_data == "not stated"
    assert models.recognizer_training_data != "not stated"


def test_a_recognizer_alone_is_served_with_the_detector_of_another_pack(packs: PackStore, foamliu: Manifest) -> None:
    models = loaded(packs, Chosen(foamliu, detector=ZOO))
    assert (models.recognizer_pack, models.detector_pack, models.detector.family) == ("foamliu", "opencv-zoo", "yunet")


def test_a_calibration_with_another_detector_of_one_family_is_a_mismatch(packs: PackStore) -> None:
    models = loaded(packs, Chosen(ZOO))
    assert models.calibration is not None
    assert models.calibration_mismatch is None or "detector_weights" not in models.calibration_mismatch
    measured = {**models.running, "detector_weights": "0" * 12}
    object.__setattr__(models.calibration, "conditions", measured)
    assert f"detector_weights {'0' * 12}, now {models.detector.weights[:12]}" in str(models.calibration_mismatch)
    del measured["detector_weights"]
    assert models.calibration_mismatch is None
    apart = replace(models, detector_pack="another")
    assert apart.calibration_mismatch == "the calibration does not state its detector, now that of the pack another"


def test_only_packs_of_which_something_is_served_are_verified(
    packs: PackStore, scrfd: Manifest, tmp_path: Path
) -> None:
    other = PackStore(tmp_path)
    shutil.copytree(packs.root / "scrfd", other.root / "scrfd")
    artefact = packs.path(ZOO) / "recognizer"
    served = find_served(other, Chosen(ZOO, artefact, scrfd))
    assert (served.recognizer, served.recognizer_pack) == (artefact, None)
    with pytest.raises(PackMissing, match="vultus packs fetch opencv-zoo"):
        find_served(other, Chosen(ZOO, detector=scrfd))
    (other.root / "scrfd/detector/detector.onnx").write_bytes(b"")
    with pytest.raises(PackDamaged, match="scrfd"):
        find_served(other, Chosen(ZOO, artefact, scrfd))


def test_what_a_pack_lacks_is_said_with_the_setting_that_helps(
    packs: PackStore, scrfd: Manifest, foamliu: Manifest
) -> None:
    photos = find_manifest("demo-photos")
    for chosen, sentence in (
        (Chosen(scrfd), "the pack scrfd has no recognizer, only a detector; .* VULTUS_DETECTOR=scrfd$"),
        (Chosen(foamliu), "the pack foamliu has no detector, only a recognizer; .* VULTUS_DETECTOR=opencv-zoo$"),
        (Chosen(ZOO, detector=foamliu), "the pack foamliu has no detector"),
        (Chosen(ZOO, detector=photos), "the pack demo-photos holds photos, not models"),
        (Chosen(photos), "the pack demo-photos holds photos, not models; .* VULTUS_MODEL$"),
    ):
        with pytest.raises(ManifestInvalid, match=sentence):
            find_served(packs, chosen)
    with pytest.raises(ManifestInvalid, match="has no detector"):
        find_detector(packs, foamliu)
    assert load_detector(packs, scrfd).family == "scrfd"
