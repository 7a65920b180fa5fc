"""Examples of quality 0, for which no error rate was measured."""

from pathlib import Path

from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.settings import CompatSettings, Settings
from tests.client import guarded_client
from tests.pictures import faces_png
from tests.service.compat.compreface.conftest import Caller, compreface_key
from tests.service.compat.quality import hardly_recognisable_faces

ANN, BOB = faces_png(1, 1), faces_png(1, 3)


def add_poor(call: Caller, subject: str, photo: bytes) -> str:
    with hardly_recognisable_faces(call.client):
        return call.add(subject, photo)


def subjects(call: Caller, photo: bytes, count: int = 1) -> list[str]:
    """Return the subjects that a photo and its embedding are recognised as."""
    options = {"prediction_count": count, "face_plugins": "calculator"}
    (face,) = call("POST", "recognition/recognize", photo, params=options).json()["result"]
    body = {"embeddings": [face["embedding"]]}
    path = f"recognition/embeddings/recognize?prediction_count={count}"
    (same,) = call("POST", path, json=body).json()["result"]
    assert [match["subject"] for match in same["similarities"]] == [match["subject"] for match in face["subjects"]]
    return [match["subject"] for match in face["subjects"]]


def test_nobody_is_recognised_by_an_example_of_quality_0(call: Caller) -> None:
    poor = add_poor(call, "ann", ANN)
    assert subjects(call, ANN) == subjects(call, ANN, -1) == []
    call.add("bob", BOB)
    assert subjects(call, ANN) == subjects(call, ANN, 2) == subjects(call, ANN, -1) == ["bob"]
    plugins = {"face_plugins": "calculator"}
    (face,) = call("POST", f"recognition/faces/{poor}/verify", ANN, params=plugins).json()["result"]
    assert (face["subject"], face["similarity"]) == ("ann", 0)
    body = {"embeddings": [face["embedding"]]}
    (same,) = call("POST", f"recognition/embeddings/faces/{poor}/verify", json=body).json()["result"]
    assert same["similarity"] == 0


def test_a_curve_claims_no_rate_and_compares_every_example(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    settings = Settings(compat=CompatSettings(compreface=True, compreface_similarity="facenet"))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        call = Caller(guarded.client, compreface_key(guarded.keys))
        poor = add_poor(call, "ann", ANN)
        assert subjects(call, ANN) == ["ann"]
        (face,) = call("POST", f"recognition/faces/{poor}/verify", ANN).json()["result"]
    assert face["similarity"] == 1.0
