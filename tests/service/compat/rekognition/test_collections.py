"""Collections and the faces in them."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from service.compat.rekognition.requests import RekognitionRequest
from service.gallery.administration import create_gallery, list_subjects
from service.gallery.galleries import Galleries
from service.gallery.records import NewTemplate
from service.gallery.template_reading import list_templates
from service.gallery.templates import store_templates
from tests.client import Guarded
from tests.pictures import faces_png
from tests.service.compat.rekognition.conftest import Caller, image, refused, rekognition_key

ANN, BOB, TWO, NONE = faces_png(1, 1), faces_png(1, 3), faces_png(2, 4), faces_png(0, 5)
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def _pages(call: Caller, operation: str, result: str, size: int, **members: Any) -> list[list[Any]]:
    pages, token = [], None
    while True:
        options = {"MaxResults": size, **({"NextToken": token} if token else {})}
        answer = call.ok(operation, **members, **options)
        pages.append(answer[result])
        token = answer.get("NextToken")
        if token is None:
            return pages


def test_collections_are_created_described_listed_and_deleted(call: Caller, galleries: Galleries) -> None:
    made = call.ok("CreateCollection", CollectionId="staff", Tags={"site": "north"})
    assert made["StatusCode"] == 200
    assert made["CollectionArn"].endswith(":collection/staff")
    refused(call("CreateCollection", CollectionId="staff"), "ResourceAlreadyExistsException")
    create_gallery(galleries, "a name with spaces")  # no client could name it
    described = call.ok("DescribeCollection", CollectionId="staff")
    assert (described["FaceCount"], described["UserCount"]) == (0, 0)
    assert set(described) == {"FaceCount", "UserCount", "FaceModelVersion", "CollectionARN", "CreationTimestamp"}
    for name in ("b", "c", "d"):
        call.ok("CreateCollection", CollectionId=name)
    assert _pages(call, "ListCollections", "CollectionIds", 3) == [["b", "c", "d"], ["staff"]]
    listed = call.ok("ListCollections")
    assert len(listed["FaceModelVersions"]) == len(listed["CollectionIds"]) == 4
    assert call.ok("DeleteCollection", CollectionId="staff") == {"StatusCode": 200}
    refused(call("DeleteCollection", CollectionId="staff"), "ResourceNotFoundException", "The collection does not")


def test_faces_are_indexed_listed_and_deleted(staff: Caller) -> None:
    answer = staff.ok("IndexFaces", CollectionId="staff", Image=image(ANN), ExternalImageId="ann:1")
    (record,) = answer["FaceRecords"]
    assert set(record["Face"]) == {
        *("FaceId", "BoundingBox", "ImageId", "ExternalImageId", "Confidence", "IndexFacesModelVersion")
    }
    assert set(record["FaceDetail"]) == {"BoundingBox", "Confidence", "Landmarks"}
    assert answer["UnindexedFaces"] == []
    ann = record["Face"]["FaceId"]
    assert staff.index(ANN, ExternalImageId="ann:1") == [ann]  # the same photo with the same id, once
    assert staff.index(ANN, ExternalImageId="other") != [ann]
    two = staff.index(TWO)
    assert len(set(two)) == 2
    assert [len(page) for page in _pages(staff, "ListFaces", "Faces", 3, CollectionId="staff")] == [3, 1]
    named = staff.ok("ListFaces", CollectionId="staff", FaceIds=[two[1], ann, UNKNOWN])["Faces"]
    assert [face["FaceId"] for face in named] == [ann, two[1]]
    assert named[0]["ExternalImageId"] == "ann:1"
    deleted = staff.ok("DeleteFaces", CollectionId="staff", FaceIds=[ann, UNKNOWN, ann])
    assert deleted["DeletedFaces"] == [ann]
    assert deleted["UnsuccessfulFaceDeletions"] == [{"FaceId": UNKNOWN, "Reasons": ["FACE_NOT_FOUND"]}]
    assert staff.ok("DescribeCollection", CollectionId="staff")["FaceCount"] == 3


def test_faces_beyond_the_maximum_say_so(staff: Caller) -> None:
    answer = staff.ok("IndexFaces", CollectionId="staff", Image=image(TWO), MaxFaces=1)
    assert len(answer["FaceRecords"]) == 1
    assert [face["Reasons"] for face in answer["UnindexedFaces"]] == [["EXCEEDS_MAX_FACES"]]
    areas = [
        face["FaceDetail"]["BoundingBox"]["Width"] * face["FaceDetail"]["BoundingBox"]["Height"]
        for face in (*answer["FaceRecords"], *answer["UnindexedFaces"])
    ]
    assert areas == sorted(areas, reverse=True)


def test_a_photo_without_a_face_indexes_none(staff: Caller) -> None:
    answer = staff.ok("IndexFaces", CollectionId="staff", Image=image(NONE))
    assert (answer["FaceRecords"], answer["UnindexedFaces"]) == ([], [])


def test_a_face_of_another_way_to_enrol_is_a_face_and_its_subject_a_user(staff: Caller, galleries: Galleries) -> None:
    staff.index(ANN)
    (own,) = list_subjects(galleries, "staff", "", 10)
    assert own.name.startswith("face ")
    native = _enrol_natively(galleries)
    faces = {face["FaceId"]: face for face in staff.ok("ListFaces", CollectionId="staff")["Faces"]}
    assert len(faces) == 2
    (other,) = [face for face in faces.values() if face.get("UserId") == "eve"]
    assert "BoundingBox" not in other
    assert staff.ok("ListUsers", CollectionId="staff")["Users"] == [{"UserId": "eve", "UserStatus": "ACTIVE"}]
    assert native == 2


def _enrol_natively(galleries: Galleries) -> int:
    vector = np.eye(1, 128, dtype=np.float32)[0]
    store_templates(galleries, "staff", [("eve", NewTemplate(vector, b"e" * 32))])
    return list_templates(galleries, "staff", 0)[1]


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("IndexFaces", {"Image": image(ANN), "MaxFaces": 0}),
        ("IndexFaces", {"Image": image(ANN), "ExternalImageId": "a b"}),
        ("IndexFaces", {"Image": image(ANN), "QualityFilter": "BEST"}),
        ("IndexFaces", {"Image": {}}),
        ("IndexFaces", {"Image": {"Bytes": "", "S3Object": {"Bucket": "photos", "Name": "x"}}}),
        ("IndexFaces", {}),
        ("IndexFaces", {"Image": {"Bytes": "%%%"}}),
        ("ListFaces", {"MaxResults": 4097}),
        ("ListFaces", {"FaceIds": []}),
        ("ListFaces", {"FaceIds": ["x"]}),
        ("DeleteFaces", {"FaceIds": []}),
        ("SearchFaces", {"FaceId": UNKNOWN, "MaxFaces": 0}),
        ("SearchFaces", {"FaceId": UNKNOWN, "FaceMatchThreshold": 101}),
        ("SearchFacesByImage", {"Image": image(ANN), "FaceMatchThreshold": -1}),
        ("CreateUser", {"UserId": "a b"}),
        ("ListUsers", {"MaxResults": 0}),
        ("AssociateFaces", {"UserId": "ann", "FaceIds": []}),
        ("SearchUsers", {}),
        ("SearchUsers", {"UserId": "ann", "FaceId": UNKNOWN}),
    ],
)
def test_members_that_cannot_be_are_invalid_parameters(staff: Caller, operation: str, members: dict[str, Any]) -> None:
    refused(staff(operation, CollectionId="staff", **members), "InvalidParameterException")


def test_members_that_are_null_are_missing(staff: Caller) -> None:
    staff.index(ANN)
    listed = staff.ok("ListFaces", CollectionId="staff", MaxResults=None, NextToken=None, UserId=None, FaceIds=None)
    assert len(listed["Faces"]) == 1
    both = {"Bytes": image(BOB)["Bytes"], "S3Object": None}
    assert len(staff.ok("SearchFacesByImage", CollectionId="staff", Image=both, MaxFaces=None)["FaceMatches"]) == 0
    assert staff.ok("ListCollections", MaxResults=None)["CollectionIds"] == ["staff"]
    refused(staff("DeleteFaces", CollectionId="staff", FaceIds=None), "InvalidParameterException", "FaceIds is missing")
    refused(staff("ListFaces", CollectionId=None), "InvalidParameterException", "CollectionId is missing")


@pytest.mark.parametrize("name", ["a b", "", "a/b", "x" * 256])
def test_ids_of_collections_have_the_form_of_amazon(call: Caller, name: str) -> None:
    refused(call("CreateCollection", CollectionId=name), "InvalidParameterException")


@pytest.mark.parametrize(
    "tags",
    [
        *({"": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {"k": None}, {str(number): "x" for number in range(201)}),
        {"k" * 2**20: 1},
    ],
)
def test_tags_have_the_limits_of_amazon(call: Caller, tags: dict[str, Any]) -> None:
    answer = call("CreateCollection", CollectionId="staff", Tags=tags)
    refused(answer, "InvalidParameterException")
    assert len(answer.content) < 500


def _schemas(base: type[RekognitionRequest] = RekognitionRequest) -> set[type[RekognitionRequest]]:
    return {base}.union(*map(_schemas, base.__subclasses__()))


@pytest.mark.parametrize("wrong", [[1] * 100_000, {str(number): 1 for number in range(100_000)}], ids=["list", "map"])
def test_no_request_has_an_error_for_each_wrong_entry_of_a_member(wrong: Any) -> None:
    for schema in _schemas():
        names = {field.alias or name for name, field in schema.model_fields.items()}
        try:
            schema.model_validate(dict.fromkeys(names, wrong))
        except ValidationError as error:
            assert error.error_count() < 20, schema


def test_tokens_of_another_collection_are_invalid(staff: Caller) -> None:
    staff.ok("CreateCollection", CollectionId="guests")
    staff.index(ANN)
    staff.index(BOB)
    token = staff.ok("ListFaces", CollectionId="staff", MaxResults=1)["NextToken"]
    assert len(staff.ok("ListFaces", CollectionId="staff", NextToken=token)["Faces"]) == 1
    for operation, wrong in (
        ("ListFaces", token),
        ("ListUsers", token),
        ("ListFaces", "no token"),
        ("ListFaces", "MTo="),
    ):
        answer = staff(operation, CollectionId="guests", NextToken=wrong)
        refused(answer, "InvalidPaginationTokenException")
    refused(staff("ListCollections", NextToken=token), "InvalidPaginationTokenException")


def test_a_key_reaches_collections_of_its_pattern_only(guarded: Guarded, staff: Caller) -> None:
    tenant = Caller(guarded.client, rekognition_key(guarded.keys, ["tenant-*"], "tenant"))
    refused(tenant("CreateCollection", CollectionId="staff"), "AccessDeniedException")
    tenant.ok("CreateCollection", CollectionId="tenant-a")
    assert tenant.ok("ListCollections")["CollectionIds"] == ["tenant-a"]
    for operation, members in (
        ("DescribeCollection", {}),
        ("DeleteCollection", {}),
        ("ListFaces", {}),
        ("IndexFaces", {"Image": image(ANN)}),
        ("SearchFacesByImage", {"Image": image(ANN)}),
        ("CreateUser", {"UserId": "ann"}),
        ("SearchUsersByImage", {"Image": image(ANN)}),
    ):
        refused(tenant(operation, CollectionId="staff", **members), "ResourceNotFoundException")
    assert staff.ok("DescribeCollection", CollectionId="staff")["FaceCount"] == 0
