"""Stored faces of quality 0, for which no error rate was measured."""

import hashlib

from models.deadline import Deadline
from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.gallery.records import NewTemplate
from service.gallery.templates import store_templates
from tests.pictures import faces_png
from tests.service.compat.quality import hardly_recognisable_faces
from tests.service.compat.rekognition.conftest import Caller, image

ANN, ANN_AGAIN, BOB = faces_png(1, 1), faces_png(1, 2), faces_png(1, 3)
STAFF = {"CollectionId": "staff"}


def index_poor(staff: Caller, photo: bytes, **members: str) -> str:
    with hardly_recognisable_faces(staff.client):
        (face,) = staff.index(photo, QualityFilter="NONE", **members)
    return face


def found(staff: Caller, operation: str, threshold: float = 0, **members: object) -> list[str]:
    """Return the ids of the faces that a search finds."""
    answer = staff.ok(operation, **STAFF, FaceMatchThreshold=threshold, **members)
    return [match["Face"]["FaceId"] for match in answer["FaceMatches"]]


def users(staff: Caller, operation: str = "SearchUsers", **members: object) -> list[str]:
    """Return the ids of the users that a search finds."""
    answer = staff.ok(operation, **STAFF, UserMatchThreshold=0, **members)
    return [match["User"]["UserId"] for match in answer["UserMatches"]]


def test_a_stored_face_of_quality_0_matches_nobody_and_nobody_matches_it(staff: Caller) -> None:
    poor, copy = index_poor(staff, ANN), index_poor(staff, ANN, ExternalImageId="copy")
    (good,) = staff.index(BOB)
    assert found(staff, "SearchFaces", FaceId=poor) == []
    assert found(staff, "SearchFaces", FaceId=copy) == []
    assert found(staff, "SearchFaces", FaceId=good) == []
    assert found(staff, "SearchFacesByImage", 80, Image=image(ANN)) == []  # it is the very photo


def test_faces_of_quality_0_do_not_hide_others(staff: Caller) -> None:
    for copy in range(12):
        index_poor(staff, ANN, ExternalImageId=f"copy{copy}")
    (bob,), (again,) = staff.index(BOB), staff.index(ANN_AGAIN)
    nearest = found(staff, "SearchFacesByImage", Image=image(ANN), MaxFaces=2)
    assert sorted(nearest) == sorted([bob, again])
    assert found(staff, "SearchFacesByImage", Image=image(ANN), MaxFaces=1) == nearest[:1]
    assert found(staff, "SearchFaces", FaceId=bob, MaxFaces=1) == [again]


def test_a_stored_face_of_unknown_quality_is_found(staff: Caller, fake_models: Models, galleries: Galleries) -> None:
    (photo,) = fake_models.pipeline.embed([ANN], "single", Deadline())
    assert not isinstance(photo, Exception)
    imported = NewTemplate(photo.faces[0].embedding, hashlib.sha256(b"ann").digest())
    store_templates(galleries, "staff", [("ann", imported)])
    (face,) = found(staff, "SearchFacesByImage", 80, Image=image(ANN))
    staff.index(ANN)
    assert len(found(staff, "SearchFaces", 80, FaceId=face)) == 1


def test_users_are_found_by_faces_above_quality_0_only(staff: Caller) -> None:
    poor, (good,), (bob,) = index_poor(staff, ANN), staff.index(ANN_AGAIN), staff.index(BOB)
    for user, faces in (("poor", [poor]), ("bob", [bob])):
        staff.ok("CreateUser", **STAFF, UserId=user)
        assert len(staff.ok("AssociateFaces", **STAFF, UserId=user, FaceIds=faces)["AssociatedFaces"]) == 1
    assert users(staff, "SearchUsersByImage", Image=image(ANN), MaxUsers=1) == ["bob"]
    assert users(staff, UserId="bob") == []
    assert users(staff, UserId="poor") == users(staff, FaceId=poor) == []
    staff.ok("AssociateFaces", **STAFF, UserId="poor", FaceIds=[good], UserMatchThreshold=0)
    assert users(staff, UserId="bob") == ["poor"]
    assert users(staff, UserId="poor") == ["bob"]
    assert users(staff, FaceId=poor) == []
    by_photo = staff.ok("SearchUsersByImage", **STAFF, Image=image(ANN_AGAIN), MaxUsers=1)["UserMatches"]
    assert by_photo[0]["Similarity"] > 99.99  # the face of quality 0 has no part in it


def test_a_face_of_quality_0_is_like_no_face_of_a_user(staff: Caller) -> None:
    poor, other = index_poor(staff, ANN), index_poor(staff, ANN, ExternalImageId="other")
    (good,) = staff.index(ANN, ExternalImageId="good")
    staff.ok("CreateUser", **STAFF, UserId="ann")
    low = [{"UserId": "ann", "Confidence": 0.0, "Reasons": ["LOW_MATCH_CONFIDENCE"]}]

    def refusals(face: str, threshold: float) -> list[dict[str, object]]:
        answer = staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[face], UserMatchThreshold=threshold)
        return [
            {key: value for key, value in one.items() if key != "FaceId"}
            for one in answer["UnsuccessfulFaceAssociations"]
        ]

    assert refusals(poor, 75) == []  # there is nothing to compare it with
    assert refusals(other, 75) == refusals(good, 75) == low
    assert refusals(good, 0) == []
    assert refusals(other, 75) == low
    assert refusals(other, 0) == []
