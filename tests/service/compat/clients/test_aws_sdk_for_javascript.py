"""@aws-sdk/client-rekognition, the SDK of Amazon for JavaScript, under Node, against the real service."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.service.compat.clients.driver import CallFailed, Driver
from tests.service.compat.clients.running import BUCKET, Album, Service

Call = Callable[..., Any]


def client_of(server: Service, node: Driver, key: dict[str, Any], **options: Any) -> Call:
    credentials = {"accessKeyId": key["access_key_id"], "secretAccessKey": key["secret_access_key"]}
    config = {"endpoint": server.url, "region": "eu-central-1", "credentials": credentials, **options}
    return partial(node, {"config": config})


@pytest.fixture
def send(server: Service, node: Driver, aws_key: dict[str, Any]) -> Call:
    """Sends a command."""
    return client_of(server, node, aws_key)


def image(photo: Path) -> dict[str, Any]:
    return {"Bytes": {"bytes": str(photo)}}


def refusal(call: Callable[[], Any]) -> str:
    """Return the class of the error that a call fails with, which is one that the SDK knows."""
    with pytest.raises(CallFailed) as failed:
        call()
    assert failed.value.is_known, failed.value
    assert failed.value.status == 400
    return failed.value.kind


def test_collections_are_created_described_listed_and_deleted(send: Call, collection_id: str) -> None:
    here = {"CollectionId": collection_id}
    created = send("CreateCollection", here)
    assert created["StatusCode"] == created["$metadata"]["httpStatusCode"] == 200
    described = send("DescribeCollection", here)
    assert (described["FaceCount"], described["CollectionARN"]) == (0, created["CollectionArn"])
    age = datetime.now(UTC) - datetime.fromisoformat(described["CreationTimestamp"])
    assert abs(age.total_seconds()) < 60
    assert described["$metadata"]["requestId"]
    pages = send("paginateListCollections", {})
    assert collection_id in [name for page in pages for name in page["CollectionIds"]]
    assert send("DeleteCollection", here)["StatusCode"] == 200


def test_faces_are_indexed_listed_searched_and_deleted(send: Call, collection_id: str, album: Album) -> None:
    (ann, again, probe, _), (bob, *_), (stranger, *_) = album.people
    here = {"CollectionId": collection_id}
    send("CreateCollection", here)
    ids = [
        send("IndexFaces", {**here, "Image": picture, "ExternalImageId": name})["FaceRecords"][0]["Face"]["FaceId"]
        for picture, name in (
            (image(ann), "ann"),
            ({"S3Object": {"Bucket": BUCKET, "Name": again.name}}, "ann"),
            (image(bob), "bob"),
        )
    ]
    pages = send("paginateListFaces", here)
    assert [face["FaceId"] for page in pages for face in page["Faces"]] == ids
    found = send("SearchFacesByImage", {**here, "Image": image(probe)})["FaceMatches"]
    assert [match["Face"]["ExternalImageId"] for match in found] == ["ann", "ann"]
    assert send("SearchFacesByImage", {**here, "Image": image(stranger)})["FaceMatches"] == []
    by_id = send("SearchFaces", {**here, "FaceId": ids[0], "FaceMatchThreshold": 70})
    assert [match["Face"]["FaceId"] for match in by_id["FaceMatches"]] == [ids[1]]
    assert send("DeleteFaces", {**here, "FaceIds": ids[:2]})["DeletedFaces"] == ids[:2]


def test_photos_are_compared_and_their_faces_detected(send: Call, album: Album) -> None:
    (ann, again, *_), (bob, *_), _ = album.people
    same = send("CompareFaces", {"SourceImage": image(ann), "TargetImage": image(again)})
    assert same["FaceMatches"][0]["Similarity"] >= 80
    assert send("CompareFaces", {"SourceImage": image(ann), "TargetImage": image(bob)})["FaceMatches"] == []
    assert len(send("DetectFaces", {"Image": image(album.group)})["FaceDetails"]) == 6


def test_users_have_faces_by_which_they_are_found(send: Call, collection_id: str, album: Album) -> None:
    (ann, again, *_), (bob, *_), _ = album.people
    here = {"CollectionId": collection_id}
    send("CreateCollection", here)
    face = send("IndexFaces", {**here, "Image": image(ann)})["FaceRecords"][0]["Face"]["FaceId"]
    for user in ("ann", "bob", "carl"):
        send("CreateUser", {**here, "UserId": user})
    assert send("AssociateFaces", {**here, "UserId": "ann", "FaceIds": [face]})["UserStatus"] == "ACTIVE"
    pages = send("paginateListUsers", here)
    assert [user["UserStatus"] for page in pages for user in page["Users"]] == ["ACTIVE", "CREATED", "CREATED"]
    found = send("SearchUsersByImage", {**here, "Image": image(again)})
    assert [match["User"]["UserId"] for match in found["UserMatches"]] == ["ann"]
    assert send("SearchUsersByImage", {**here, "Image": image(bob)})["UserMatches"] == []
    by_face = send("SearchUsers", {**here, "FaceId": face})
    assert [match["User"]["UserId"] for match in by_face["UserMatches"]] == ["ann"]
    parted = send("DisassociateFaces", {**here, "UserId": "ann", "FaceIds": [face]})
    assert (parted["DisassociatedFaces"], parted["UserStatus"]) == ([{"FaceId": face}], "CREATED")
    assert send("DeleteUser", {**here, "UserId": "ann"})["$metadata"]["httpStatusCode"] == 200


def test_errors_are_the_classes_of_the_sdk(send: Call, collection_id: str, album: Album) -> None:
    ann, nobody, here = image(album.people[0][0]), image(album.nobody), {"CollectionId": collection_id}
    assert refusal(partial(send, "DescribeCollection", here)) == "ResourceNotFoundException"
    send("CreateCollection", here)
    assert refusal(partial(send, "CreateCollection", here)) == "ResourceAlreadyExistsException"
    assert refusal(partial(send, "CreateCollection", {"CollectionId": "other"})) == "AccessDeniedException"
    assert refusal(partial(send, "SearchFacesByImage", {**here, "Image": nobody})) == "InvalidParameterException"
    missing = {"S3Object": {"Bucket": BUCKET, "Name": "missing.jpg"}}
    assert refusal(partial(send, "DetectFaces", {"Image": missing})) == "InvalidS3ObjectException"
    assert refusal(partial(send, "ListFaces", {**here, "NextToken": "x"})) == "InvalidPaginationTokenException"
    send("CreateUser", {**here, "UserId": "ann"})
    assert refusal(partial(send, "CreateUser", {**here, "UserId": "ann"})) == "ConflictException"
    compared = {"SourceImage": nobody, "TargetImage": ann}
    with pytest.raises(CallFailed, match="no faces in the image"):
        send("CompareFaces", compared)


def test_photos_that_are_too_large_are_refused_as_such(send: Call, tmp_path: Path) -> None:
    """The second is larger than any request, so it is refused before it has arrived."""
    for megabytes in (6, 24):
        large = tmp_path / f"{megabytes}.jpg"
        large.write_bytes(bytes(megabytes * 2**20))
        assert refusal(partial(send, "DetectFaces", {"Image": image(large)})) == "ImageTooLargeException"


def test_throttled_calls_are_repeated_by_the_client(server: Service, node: Driver) -> None:
    key = server.key("--aws", "--rate", "1/s")
    once, patient = (client_of(server, node, key, maxAttempts=attempts) for attempts in (1, 8))
    assert refusal(lambda: [once("ListCollections", {}) for _ in range(9)]) == "ThrottlingException"
    assert any(patient("ListCollections", {})["$metadata"]["attempts"] > 1 for _ in range(9))


def test_a_wrong_secret_is_refused_and_a_wrong_clock_is_corrected_by_the_date_of_the_refusal(
    server: Service, node: Driver, aws_key: dict[str, Any]
) -> None:
    with pytest.raises(CallFailed, match="InvalidSignatureException"):
        client_of(server, node, {**aws_key, "secret_access_key": "0" * 40})("ListCollections", {})
    an_hour_ms = 3_600_000
    late = client_of(server, node, aws_key, systemClockOffset=-an_hour_ms)
    assert late("ListCollections", {})["$metadata"]["attempts"] == 2
