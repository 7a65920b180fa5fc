"""Each method against the real service with the real pack."""

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.client import AsyncClient, Client, Embedding, NotFound, SeveralFaces, Subject, VultusProblem
from tests.conftest import ROOT
from tests.service.test_end_to_end import altered


def test_faces_are_detected_in_a_path_bytes_and_an_open_file(vultus: Client, photos: Path) -> None:
    path = photos / "astronaut.png"
    answers = vultus.detect([path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())])
    assert len(answers.items) == 4
    assert len({item.faces for item in answers.items}) == 1
    (face,) = answers.items[0].faces
    assert 0.5 < face.score <= 1
    with path.open("rb") as file:
        assert vultus.detect(file).items[0] == answers.items[0]


def test_embeddings_come_back_as_arrays_and_are_compared(vultus: Client, photos: Path) -> None:
    answer = vultus.embed(altered(photos / "astronaut.png"), faces="single")
    (face,) = answer.items[0].faces
    assert face.embedding.dtype == np.float32
    assert float(np.linalg.norm(face.embedding)) == pytest.approx(1, abs=1e-3)
    known = Embedding(face.embedding, contract_id=answer.contract_id)
    decided = vultus.verify(photos / "astronaut.png", known, operating_point=0.001, inconclusive=True)
    assert decided.decision == "match"
    assert decided.operating_point is not None
    assert decided.operating_point.measured_on.startswith("LFW")
    assert decided.probe is not None
    assert decided.reference is None
    with pytest.raises(VultusProblem) as raised:
        vultus.verify(photos / "astronaut.png", Embedding(face.embedding, contract_id="ec1-other"))
    assert raised.value.code == "contract_mismatch"


def test_a_subject_is_enrolled_once_found_and_erased(vultus: Client, gallery: str, photos: Path) -> None:
    photo, subject = photos / "astronaut.png", Subject(gallery, "Ann Ünal & co?")
    (item,) = vultus.enrol(gallery, subject.name, photo, faces="largest", reject=["cut_off"]).items
    (again,) = vultus.enrol(gallery, subject.name, photo).items
    assert (item.status, again.status) == ("enrolled", "duplicate")
    assert vultus.verify(altered(photo), subject).decision == "match"
    one, many = vultus.identify([altered(photo), photos / "group.jpg"], gallery=[gallery], k=1).items
    assert one.faces[0].candidates[0].subject == subject.name
    assert len(many.faces) == 6
    assert subject.name in str(vultus.request("GET", f"/v1/galleries/{gallery}/subjects", query={"limit": 1}))
    assert vultus.erase(gallery, subject.name).template_count == 1
    with pytest.raises(NotFound, match="subject"):
        vultus.erase(gallery, subject.name)
    for name in ("", ".", ".."):  # whose path would be that of the gallery
        with pytest.raises(ValueError, match="name"):
            vultus.erase(gallery, name)


def test_embeddings_are_enrolled_with_what_is_known_of_them(vultus: Client, gallery: str, photos: Path) -> None:
    answer = vultus.embed(photos / "astronaut.png")
    (face,) = answer.items[0].faces
    known = Embedding(face.embedding, face.norm, face.quality, answer.contract_id)
    assert [item.status for item in vultus.enrol(gallery, "ann", [known, -face.embedding]).items] == ["enrolled"] * 2
    (found,) = vultus.identify(known, gallery=gallery).items
    assert found.faces[0].candidates[0].similarity == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="separate calls"):
        vultus.identify([known, photos / "astronaut.png"], gallery=gallery)


def test_problems_are_exceptions_with_their_code_part_and_request(vultus: Client, photos: Path) -> None:
    with pytest.raises(SeveralFaces) as raised:
        vultus.verify(photos / "group.jpg", photos / "astronaut.png")
    assert (raised.value.code, raised.value.status, raised.value.part) == ("several_faces", 422, "probe")
    assert raised.value.request_id
    with pytest.raises(VultusProblem) as unreadable:
        vultus.detect(b"text")
    assert unreadable.value.code == "image_unreadable"
    with pytest.raises(NotFound) as unknown:
        vultus.identify(photos / "astronaut.png", gallery="none")
    assert unknown.value.code == "gallery_unknown"
    with pytest.raises(VultusProblem, match="unknown member 'fase'"):
        vultus.detect(photos / "astronaut.png", fase="all")  # type: ignore[call-arg]


def test_galleries_are_created_listed_described_and_erased(vultus: Client) -> None:
    made = vultus.create_gallery("described", index="sq8", metadata={"site": "north"}, keep_crops=True)
    assert (made.index, made.metadata, made.keep_crops) == ("sq8", {"site": "north"}, True)
    assert made in vultus.galleries()
    with pytest.raises(VultusProblem) as taken:
        vultus.create_gallery("described")
    assert taken.value.code == "gallery_exists"
    exported = vultus.request("GET", "/v1/galleries/described/export")
    assert exported.startswith(b'{"format"')
    changed = vultus.request("PATCH", "/v1/galleries/described", json={"retain_days": 9})
    assert changed["retain_days"] == 9
    assert vultus.request("DELETE", "/v1/galleries/described")["what"] == "gallery"


def test_information_names_the_models(vultus: Client) -> None:
    info = vultus.info()
    assert info.dimensions == 128
    assert info.recognizer.session.engine == "openvino"
    assert info.operating_points[0].interval[0] < info.operating_points[0].interval[1]


def test_the_asynchronous_client_gives_the_same_answers(vultus: Client, url: str, gallery: str, photos: Path) -> None:
    photo = photos / "astronaut.png"

    async def ask() -> None:
        async with AsyncClient(url, trust_env=False) as client:
            assert await client.info() == vultus.info()
            assert await client.detect(photo) == vultus.detect(photo)
            embedded = await client.embed(photo)
            assert (await client.enrol(gallery, "ann", photo)).items[0].status == "enrolled"
            assert (await client.identify(photo, gallery=gallery)).items[0].faces[0].candidates[0].subject == "ann"
            decided = await client.verify(embedded.items[0].faces[0].embedding, Subject(gallery, "ann"))
            assert decided.similarity == pytest.approx(1, abs=1e-4)
            assert gallery in [found.gallery for found in await client.galleries()]
            made = await client.create_gallery("asynchronous")
            assert (await client.request("GET", "/v1/galleries/asynchronous"))["created"] == made.created
            assert (await client.erase(gallery, "ann")).what == "subject"
            with pytest.raises(NotFound):
                await client.erase(gallery, "ann")

    asyncio.run(ask())


def test_importing_the_client_loads_nothing_of_the_server() -> None:
    code = "import sys, service.client; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    heavy = {"fastapi", "onnxruntime", "openvino", "cv2", "faiss", "sqlalchemy", "pydantic", "starlette", "models"}
    assert not {name.partition(".")[0] for name in loaded} & heavy
    of_service = {name for name in loaded if name.startswith("service.") and not name.startswith("service.client")}
    assert of_service == {"service.version"}
