"""Searches, comparisons and users."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.artefact.card import NormStatistics
from models.quality import GeometryRange
from service.gallery.consistency import check_erasure
from service.gallery.galleries import Galleries
from tests.client import Guarded
from tests.pictures import faces_png
from tests.service.compat.rekognition.conftest import Caller, image, refused, rekognition_key, signed

ANN, ANN_AGAIN, BOB = faces_png(1, 1), faces_png(1, 2), faces_png(1, 3)
TWO, NONE = faces_png(2, 4), faces_png(0, 5)
UNKNOWN = "00000000-0000-0000-0000-000000000000"
STAFF = {"CollectionId": "staff"}


def test_a_stored_face_is_searched_for_without_itself(staff: Caller) -> None:
    (ann,), (bob,) = staff.index(ANN, ExternalImageId="ann"), staff.index(BOB)
    answer = staff.ok("SearchFaces", **STAFF, FaceId=ann, FaceMatchThreshold=0)
    assert answer["SearchedFaceId"] == ann
    assert [match["Face"]["FaceId"] for match in answer["FaceMatches"]] == [bob]
    assert 0 <= answer["FaceMatches"][0]["Similarity"] < 80
    assert staff.ok("SearchFaces", **STAFF, FaceId=ann)["FaceMatches"] == []  # 80 is the default
    refused(staff("SearchFaces", **STAFF, FaceId=UNKNOWN), "InvalidParameterException", "faceId was not found")


def test_the_largest_face_of_a_photo_is_searched_for(staff: Caller) -> None:
    (ann,) = staff.index(ANN, ExternalImageId="ann")
    answer = staff("SearchFacesByImage", **STAFF, Image=image(ANN))
    assert answer.headers["x-vultus-similarity"] == "80=fmr_1e-3, 99=bound"
    (match,) = answer.json()["FaceMatches"]
    assert (match["Face"]["FaceId"], match["Face"]["ExternalImageId"]) == (ann, "ann")
    assert match["Similarity"] == pytest.approx(100)
    assert set(answer.json()["SearchedFaceBoundingBox"]) == {"Width", "Height", "Left", "Top"}
    assert 0 < answer.json()["SearchedFaceConfidence"] <= 100
    refused(staff("SearchFacesByImage", **STAFF, Image=image(NONE)), "InvalidParameterException", "no faces")


def test_a_face_that_was_deleted_is_in_no_answer(staff: Caller, galleries: Galleries) -> None:
    (ann,) = staff.index(ANN)
    staff.ok("DeleteFaces", **STAFF, FaceIds=[ann])
    assert staff.ok("SearchFacesByImage", **STAFF, Image=image(ANN))["FaceMatches"] == []
    refused(staff("SearchFaces", **STAFF, FaceId=ann), "InvalidParameterException", "faceId was not found")
    assert check_erasure(galleries).faults == []


def test_an_empty_collection_has_no_matches(staff: Caller) -> None:
    assert staff.ok("SearchFacesByImage", **STAFF, Image=image(ANN))["FaceMatches"] == []


def test_photos_are_compared(call: Caller) -> None:
    same = call.ok("CompareFaces", SourceImage=image(ANN), TargetImage=image(ANN))
    assert [match["Similarity"] for match in same["FaceMatches"]] == [pytest.approx(100)]
    assert set(same["FaceMatches"][0]["Face"]) == {"BoundingBox", "Confidence", "Landmarks"}
    assert same["UnmatchedFaces"] == []
    other = call.ok("CompareFaces", SourceImage=image(ANN), TargetImage=image(TWO))
    assert (len(other["FaceMatches"]), len(other["UnmatchedFaces"])) == (0, 2)
    every = call.ok("CompareFaces", SourceImage=image(TWO), TargetImage=image(TWO), SimilarityThreshold=0)
    similarities = [match["Similarity"] for match in every["FaceMatches"]]
    assert similarities == sorted(similarities, reverse=True)
    assert len(similarities) == 2
    for source, target in ((NONE, ANN), (ANN, NONE)):
        answer = call("CompareFaces", SourceImage=image(source), TargetImage=image(target))
        refused(answer, "InvalidParameterException", "no faces")


def test_faces_are_detected(call: Caller) -> None:
    details = call.ok("DetectFaces", Image=image(TWO), Attributes=["ALL"])["FaceDetails"]
    assert [set(detail) for detail in details] == [{"BoundingBox", "Confidence", "Landmarks"}] * 2
    landmarks = [mark["Type"] for mark in details[0]["Landmarks"]]
    assert landmarks == ["eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"]
    assert call.ok("DetectFaces", Image=image(NONE)) == {"FaceDetails": []}


def test_users_have_faces_and_are_searched_for(staff: Caller) -> None:
    (ann,), (again,), (bob,) = staff.index(ANN), staff.index(ANN_AGAIN), staff.index(BOB)
    for user in ("ann", "bob"):
        assert staff.ok("CreateUser", **STAFF, UserId=user) == {}
    refused(staff("CreateUser", **STAFF, UserId="ann"), "ConflictException")
    users = staff.ok("ListUsers", **STAFF)["Users"]
    assert users == [{"UserId": "ann", "UserStatus": "CREATED"}, {"UserId": "bob", "UserStatus": "CREATED"}]
    both = staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[ann, again, UNKNOWN], UserMatchThreshold=0)
    assert both["AssociatedFaces"] == [{"FaceId": ann}, {"FaceId": again}]
    assert both["UnsuccessfulFaceAssociations"] == [{"FaceId": UNKNOWN, "Reasons": ["FACE_NOT_FOUND"]}]
    assert both["UserStatus"] == "ACTIVE"
    once_more = staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[ann])
    assert once_more["AssociatedFaces"] == [{"FaceId": ann}]
    (failed,) = staff.ok("AssociateFaces", **STAFF, UserId="bob", FaceIds=[ann])["UnsuccessfulFaceAssociations"]
    assert (failed["UserId"], failed["Reasons"]) == ("ann", ["ASSOCIATED_TO_A_DIFFERENT_USER"])
    (low,) = staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[bob])["UnsuccessfulFaceAssociations"]
    assert low["Reasons"] == ["LOW_MATCH_CONFIDENCE"]
    assert 0 <= low["Confidence"] < 75
    staff.ok("AssociateFaces", **STAFF, UserId="bob", FaceIds=[bob])
    assert len(staff.ok("ListFaces", **STAFF, UserId="ann")["Faces"]) == 2
    described = staff.ok("DescribeCollection", **STAFF)
    assert (described["FaceCount"], described["UserCount"]) == (3, 2)
    by_photo = staff.ok("SearchUsersByImage", **STAFF, Image=image(BOB), UserMatchThreshold=0, MaxUsers=1)
    assert [match["User"]["UserId"] for match in by_photo["UserMatches"]] == ["bob"]
    assert by_photo["SearchedFace"]["FaceDetail"]["Landmarks"]
    by_face = staff.ok("SearchUsers", **STAFF, FaceId=again, UserMatchThreshold=0)
    assert by_face["UserMatches"][0]["User"]["UserId"] == "ann"
    assert by_face["SearchedFace"] == {"FaceId": again}
    by_user = staff.ok("SearchUsers", **STAFF, UserId="ann", UserMatchThreshold=0)
    assert [match["User"]["UserId"] for match in by_user["UserMatches"]] == ["bob"]
    (kept,) = staff.ok("DeleteFaces", **STAFF, FaceIds=[ann])["UnsuccessfulFaceDeletions"]
    assert kept == {"FaceId": ann, "UserId": "ann", "Reasons": ["ASSOCIATED_TO_AN_EXISTING_USER"]}
    apart = staff.ok("DisassociateFaces", **STAFF, UserId="ann", FaceIds=[ann, bob, UNKNOWN])
    assert apart["DisassociatedFaces"] == [{"FaceId": ann}]
    reasons = {face["FaceId"]: face["Reasons"] for face in apart["UnsuccessfulFaceDisassociations"]}
    assert reasons == {bob: ["ASSOCIATED_TO_A_DIFFERENT_USER"], UNKNOWN: ["FACE_NOT_FOUND"]}
    assert staff.ok("DeleteUser", **STAFF, UserId="ann") == {}
    refused(staff("DeleteUser", **STAFF, UserId="ann"), "ResourceNotFoundException", "The user does not exist")
    assert staff.ok("DescribeCollection", **STAFF)["FaceCount"] == 3  # faces stay when their user is deleted
    assert staff.ok("DeleteFaces", **STAFF, FaceIds=[ann, again])["DeletedFaces"] == [ann, again]


def test_a_repeated_request_gets_the_first_answer(staff: Caller) -> None:
    (ann,) = staff.index(ANN)
    token = {"ClientRequestToken": "t-1"}
    for _ in range(2):
        assert staff.ok("CreateUser", **STAFF, UserId="ann", **token) == {}
    refused(staff("CreateUser", **STAFF, UserId="bob", **token), "IdempotentParameterMismatchException")
    refused(staff("CreateUser", **STAFF, UserId="ann", ClientRequestToken="t-2"), "ConflictException")
    associated = [staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[ann], **token) for _ in range(2)]
    apart = [staff.ok("DisassociateFaces", **STAFF, UserId="ann", FaceIds=[ann], **token) for _ in range(2)]
    assert associated[0] == associated[1]
    assert apart[0] == apart[1]
    assert apart[0]["DisassociatedFaces"] == [{"FaceId": ann}]
    for _ in range(2):
        assert staff.ok("DeleteUser", **STAFF, UserId="ann", **token) == {}
    refused(staff("CreateUser", **STAFF, UserId="eve", ClientRequestToken="a token"), "InvalidParameterException")


def test_the_ids_of_faces_do_not_depend_on_the_filter(staff: Caller) -> None:
    every = staff.index(TWO, QualityFilter="NONE")
    app: Any = staff.client.app
    models = app.state.backend.models
    seen = replace(models.calibration.quality, seen=GeometryRange(1e6, 0.0, 0.0))  # every face is too small
    app.state.backend = replace(
        app.state.backend, models=replace(models, calibration=replace(models.calibration, quality=seen))
    )
    assert staff.index(TWO) == []
    assert staff.index(TWO, QualityFilter="NONE") == every
    assert staff.index(TWO, QualityFilter="NONE", MaxFaces=1) == every[:1]


def test_clients_may_use_any_name_of_the_service(guarded: Guarded, call: Caller) -> None:
    body = b"{}"
    headers = signed(call.credentials, "ListCollections", body, host="vultus:8000")
    assert guarded.client.post("/", content=body, headers=headers).status_code == 200
    own = guarded.client.get("/v1/info", headers={"Host": "vultus:8000", **guarded.key("read", name="own")})
    assert own.status_code == 421


def test_faces_without_a_user_do_not_hide_users(staff: Caller) -> None:
    (ann,) = staff.index(ANN)
    staff.ok("CreateUser", **STAFF, UserId="ann")
    staff.ok("AssociateFaces", **STAFF, UserId="ann", FaceIds=[ann])
    for copy in range(12):
        staff.index(ANN, ExternalImageId=f"copy{copy}")
    found = staff.ok("SearchUsersByImage", **STAFF, Image=image(ANN), MaxUsers=1)["UserMatches"]
    assert [match["User"]["UserId"] for match in found] == ["ann"]
    users = staff.ok("SearchUsersByImage", **STAFF, Image=image(TWO), UserMatchThreshold=0)
    assert [face["Reasons"] for face in users["UnsearchedFaces"]] == [["FACE_NOT_LARGEST"]]


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("AssociateFaces", {"UserId": "nobody", "FaceIds": [UNKNOWN]}),
        ("DisassociateFaces", {"UserId": "nobody", "FaceIds": [UNKNOWN]}),
        ("ListFaces", {"UserId": "nobody"}),
        ("SearchUsers", {"UserId": "nobody"}),
    ],
)
def test_ids_that_do_not_exist_are_not_found(staff: Caller, operation: str, members: dict[str, Any]) -> None:
    refused(staff(operation, **STAFF, **members), "ResourceNotFoundException")


def test_photos_are_read_from_buckets_and_from_nowhere_else(staff: Caller, buckets: Path, tmp_path: Path) -> None:
    (buckets / "photos" / "deep").mkdir()
    (buckets / "photos" / "deep" / "ann.png").write_bytes(ANN)
    (tmp_path / "outside.png").write_bytes(ANN)
    (buckets / "photos" / "link.png").symlink_to(tmp_path / "outside.png")

    def search(bucket: str, name: str, **members: str) -> Any:
        image = {"S3Object": {"Bucket": bucket, "Name": name, **members}}
        return staff("DetectFaces", Image=image)

    assert len(search("photos", "deep/ann.png").json()["FaceDetails"]) == 1
    for bucket, name in (
        *(("photos", "missing.png"), ("other", "deep/ann.png"), ("photos", "../../outside.png")),
        *(("photos", str(tmp_path / "outside.png")), ("photos", "link.png"), ("photos", "deep"), ("photos", "a\0b")),
        ("...", "outside.png"),
    ):
        refused(search(bucket, name), "InvalidS3ObjectException", "Unable to get object metadata from S3")
    refused(search("photos", "deep/ann.png", Version="1"), "InvalidS3ObjectException")
    refused(search("..", "outside.png"), "InvalidParameterException")


def test_a_key_names_buckets_like_collections(guarded: Guarded, staff: Caller, buckets: Path) -> None:
    for bucket in ("tenant-a", "tenant-b", "other"):
        (buckets / bucket).mkdir()
        (buckets / bucket / "ann.png").write_bytes(ANN)
    one = Caller(guarded.client, rekognition_key(guarded.keys, ["tenant-a"], "one"))
    all_of_them = Caller(guarded.client, rekognition_key(guarded.keys, ["tenant-*"], "tenants"))

    def reached(call: Caller) -> set[str]:
        objects = {
            name: {"S3Object": {"Bucket": name, "Name": "ann.png"}} for name in ("tenant-a", "tenant-b", "other")
        }
        answers = {name: call("CompareFaces", SourceImage=image(ANN), TargetImage=at) for name, at in objects.items()}
        for answer in answers.values():
            if answer.status_code != 200:
                refused(answer, "InvalidS3ObjectException", "Unable to get object metadata from S3")
        return {name for name, answer in answers.items() if answer.status_code == 200}

    assert reached(one) == {"tenant-a"}
    assert reached(all_of_them) == {"tenant-a", "tenant-b"}
    assert reached(staff) == {"tenant-a", "tenant-b", "other"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/rekognition/ListCollections", "/rekognition/x"])
def test_another_method_is_answered_in_the_form_of_amazon(call: Caller, method: str, path: str) -> None:
    headers = signed(call.credentials, "ListCollections", b"", method=method, path=path)
    answer = call.client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "UnknownOperationException")
    if method != "HEAD":
        refused(answer, "UnknownOperationException", f"not by {method}")
    unsigned = call.client.request(method, path, headers={"X-Amz-Target": "RekognitionService.ListCollections"})
    assert unsigned.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


def test_another_method_of_the_own_api_is_answered_in_its_form(guarded: Guarded) -> None:
    answer = guarded.client.delete("/", headers=guarded.key("admin"))
    assert (answer.status_code, answer.json()["code"]) in {(404, "route_unknown"), (405, "method_not_allowed")}


def test_photos_that_cannot_be_used_are_told_apart(call: Caller) -> None:
    refused(call("DetectFaces", Image=image(b"no image")), "InvalidImageFormatException")
    refused(call("DetectFaces", Image=image(b"x" * (5 * 2**20 + 1))), "ImageTooLargeException")
    refused(call.send("DetectFaces", b"x" * (15 * 2**20 + 1)), "ImageTooLargeException")
    refused(call.send("DetectFaces", b"[]"), "SerializationException")
    refused(call.send("DetectFaces", b"{"), "SerializationException")


def test_operations_that_do_not_exist_are_unknown(call: Caller) -> None:
    refused(call("DetectLabels", Image=image(ANN)), "UnknownOperationException")
    refused(call.send("", b"{}"), "UnknownOperationException")


def test_requests_are_refused_by_their_signature_before_anything_else(guarded: Guarded, call: Caller) -> None:
    refused(call.send("DetectFaces", b"{", X_Amz_Date="20200101T000000Z"), "IncompleteSignatureException")
    refused(call.send("DetectFaces", b"{", X_Amz_Target="RekognitionService.ListFaces"), "InvalidSignatureException")
    refused(guarded.client.post("/", content=b"{}"), "MissingAuthenticationTokenException")
    guarded.keys.revoke("app")
    refused(call("ListCollections"), "UnrecognizedClientException", "security token")


def test_a_replayed_request_is_refused_when_its_time_has_passed(
    guarded: Guarded, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    assert call("ListCollections").status_code == 200
    scheme = _scheme(guarded)
    monkeypatch.setattr(scheme, "_clock", lambda: now + 301)
    refused(call("ListCollections"), "InvalidSignatureException", "Signature expired")


def _scheme(guarded: Guarded) -> Any:
    app: Any = guarded.client.app
    (middleware,) = [entry for entry in app.user_middleware if entry.cls.__name__ == "AccessMiddleware"]
    return middleware.kwargs["schemes"][0]


def test_keys_of_the_own_api_do_not_open_operations(guarded: Guarded) -> None:
    key = guarded.key("admin")
    for path in ("/", "/rekognition/ListCollections"):
        answer = guarded.client.post(path, json={}, headers=key)
        refused(answer, "MissingAuthenticationTokenException")


def test_a_client_that_sends_too_much_is_told_to_wait(guarded: Guarded) -> None:
    slow = Caller(guarded.client, rekognition_key(guarded.keys, name="slow", rate="2/min"))
    assert [slow("ListCollections").status_code for _ in range(2)] == [200, 200]
    refused(slow("ListCollections"), "ThrottlingException")


def test_without_the_setting_there_is_no_such_operation(client: Any) -> None:
    assert client.post("/", json={}).json()["code"] == "route_unknown"


def test_a_hardly_recognisable_face_matches_nobody(staff: Caller) -> None:
    staff.index(ANN)
    app: Any = staff.client.app
    models = app.state.backend.models
    high = replace(models.calibration.quality, statistics=NormStatistics(60.0, 0.7, 0.333))  # all norms are far below
    calibration = replace(models.calibration, quality=high)
    app.state.backend = replace(app.state.backend, models=replace(models, calibration=calibration))
    assert staff.ok("SearchFacesByImage", **STAFF, Image=image(ANN))["FaceMatches"] == []
    assert staff.ok("SearchUsersByImage", **STAFF, Image=image(ANN), UserMatchThreshold=0)["UserMatches"] == []
    compared = staff.ok("CompareFaces", SourceImage=image(ANN), TargetImage=image(ANN), SimilarityThreshold=0)
    assert (compared["FaceMatches"], len(compared["UnmatchedFaces"])) == ([], 1)
    indexed = staff.ok("IndexFaces", **STAFF, Image=image(BOB))
    assert [face["Reasons"] for face in indexed["UnindexedFaces"]] == [["LOW_FACE_QUALITY"]]
    assert len(staff.ok("IndexFaces", **STAFF, Image=image(BOB), QualityFilter="NONE")["FaceRecords"]) == 1
    refused(staff("SearchFacesByImage", **STAFF, Image=image(ANN), QualityFilter="HIGH"), "InvalidParameterException")


def test_a_filter_needs_a_validated_quality(staff: Caller) -> None:
    app: Any = staff.client.app
    models = app.state.backend.models
    unknown = replace(models.calibration.quality, validated=False, because="it was not measured")
    calibration = replace(models.calibration, quality=unknown)
    app.state.backend = replace(app.state.backend, models=replace(models, calibration=calibration))
    answer = staff("IndexFaces", **STAFF, Image=image(ANN), QualityFilter="LOW")
    refused(answer, "InvalidParameterException", "it was not measured")
    assert len(staff.index(ANN)) == 1  # AUTO


def test_a_model_without_a_calibration_has_no_similarities(staff: Caller) -> None:
    app: Any = staff.client.app
    bare = replace(app.state.backend.models, calibration=None, uncalibrated_because="there is none")
    app.state.backend = replace(app.state.backend, models=bare)
    for operation in ("SearchFacesByImage", "SearchUsersByImage"):
        refused(staff(operation, **STAFF, Image=image(ANN)), "InvalidParameterException", "there is none")
    answer = staff("CompareFaces", SourceImage=image(ANN), TargetImage=image(ANN))
    refused(answer, "InvalidParameterException", "similarities need a calibration")
    assert len(staff.index(ANN)) == 1
