"""The calls of double-take, which recognises faces of cameras by CompreFace or Amazon Rekognition.

It is a server, so its calls are repeated here as its detectors send them (its `api/src/util/detectors`).
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.compat.clients.aws import signed_call
from tests.service.compat.clients.running import Album, Service

BOUNDARY = "--------------------------518209637745902164837465"  # as its form-data writes them
CHUNK_BYTES = 65536


@pytest.fixture
def compreface(server: Service) -> Iterator[httpx2.Client]:
    headers = {"x-api-key": server.compreface_key(), "Accept": "application/json, text/plain, */*"}
    address = f"{server.url}/api/v1/recognition"
    with httpx2.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def send_file(client: httpx2.Client, path: str, photo: Path) -> httpx2.Response:
    """Send a photo as a stream of unknown length."""

    def pieces() -> Iterator[bytes]:
        disposition = f'Content-Disposition: form-data; name="file"; filename="{photo.name}"'
        yield f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
        with photo.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    return client.post(path, content=pieces(), headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


def test_it_trains_recognises_and_forgets_by_compreface(compreface: httpx2.Client, album: Album) -> None:
    (ann, again, *_), (stranger, *_), _ = album.people
    trained = send_file(compreface, "/faces?subject=Ann%20Example", ann)
    assert (trained.status_code, trained.json()["subject"]) == (201, "Ann Example")
    options = "face_plugins=mask,gender,age&det_prob_threshold=0.8"

    def recognise(photo: Path) -> Any:
        return send_file(compreface, f"/recognize?{options}", photo).json()

    (face,) = recognise(again)["result"]
    assert face["subjects"][0]["subject"] == "Ann Example"
    assert face["subjects"][0]["similarity"] * 100 > 90
    assert face["box"]["x_max"] > face["box"]["x_min"] >= 0
    assert recognise(stranger)["result"][0]["subjects"][0]["similarity"] * 100 < 10
    assert recognise(album.nobody)["code"] == 28  # it takes this code, and no other, for a photo without a face
    assert compreface.delete("/faces", params={"subject": "ann example"}).json() == {"deleted": 1}
    assert recognise(again)["result"][0]["subjects"] == []


def test_it_trains_recognises_and_forgets_by_rekognition(
    server: Service, aws_key: dict[str, Any], collection_id: str, album: Album
) -> None:
    (ann, again, *_), (stranger, *_), _ = album.people

    def send(operation: str, **members: Any) -> Any:
        answer = signed_call(server, aws_key, operation, {**members, "CollectionId": collection_id})
        return answer.json()

    def image(photo: Path) -> dict[str, str]:
        return {"Bytes": base64.b64encode(photo.read_bytes()).decode()}

    assert send("DescribeCollection")["__type"] == "ResourceNotFoundException"  # then it creates the collection
    assert send("CreateCollection")["StatusCode"] == 200
    ids = [record["Face"]["FaceId"] for record in send("IndexFaces", Image=image(ann))["FaceRecords"]]
    found = send("SearchFacesByImage", FaceMatchThreshold=0, Image=image(again))
    assert [match["Face"]["FaceId"] for match in found["FaceMatches"]] == ids
    assert found["FaceMatches"][0]["Similarity"] >= 80
    assert set(found["SearchedFaceBoundingBox"]) == {"Width", "Height", "Left", "Top"}
    assert send("SearchFacesByImage", Image=image(stranger))["FaceMatches"] == []
    assert "no faces" in send("SearchFacesByImage", Image=image(album.nobody))["message"]
    assert send("DeleteFaces", FaceIds=ids)["DeletedFaces"] == ids
