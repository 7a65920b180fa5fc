"""Users, among them subjects that clients of Rekognition did not create."""

import numpy as np

from service.compat.face_ids import face_id
from service.gallery.administration import create_subject, list_subjects, read_subject
from service.gallery.consistency import check_consistency
from service.gallery.erasure import erase_template
from service.gallery.galleries import Galleries
from service.gallery.records import NewTemplate
from service.gallery.templates import store_templates
from tests.pictures import faces_png
from tests.service.compat.rekognition.conftest import Caller, refused

ANN, BOB = faces_png(1, 1), faces_png(1, 3)
STAFF = {"CollectionId": "staff"}


def enrol(galleries: Galleries, subject: str, *sources: bytes) -> list[str]:
    """Enrol photos as another surface does, and return the ids of their faces."""
    vectors = np.eye(len(sources), 128, dtype=np.float32)
    entries = [
        (subject, NewTemplate(vector, source.ljust(32))) for vector, source in zip(vectors, sources, strict=True)
    ]
    store_templates(galleries, "staff", entries)
    return [face_id(source.ljust(32)) for source in sources]


def names(galleries: Galleries) -> dict[str, int]:
    """Return the number of templates of each subject."""
    return {subject.name: subject.template_count for subject in list_subjects(galleries, "staff", "", -1)}


def test_a_user_may_have_any_name_that_another_surface_gave(staff: Caller, galleries: Galleries) -> None:
    name = "José García / ñ".replace("/", "&")
    faces = enrol(galleries, name, b"first", b"second")
    assert staff.ok("ListUsers", **STAFF)["Users"] == [{"UserId": name, "UserStatus": "ACTIVE"}]
    assert len(staff.ok("ListFaces", **STAFF, UserId=name)["Faces"]) == 2
    assert staff.ok("SearchUsers", **STAFF, UserId=name, UserMatchThreshold=0)["UserMatches"] == []
    decomposed = name.replace("é", "e\u0301")
    apart = staff.ok("DisassociateFaces", **STAFF, UserId=decomposed, FaceIds=faces[:1])
    assert apart["DisassociatedFaces"] == [{"FaceId": faces[0]}]
    again = staff.ok("AssociateFaces", **STAFF, UserId=decomposed, FaceIds=faces, UserMatchThreshold=0)
    assert [face["FaceId"] for face in again["AssociatedFaces"]] == faces
    assert staff.ok("DeleteUser", **STAFF, UserId=name) == {}
    assert staff.ok("DeleteFaces", **STAFF, FaceIds=faces)["DeletedFaces"] == faces


def test_a_user_is_created_with_an_id_of_the_form_of_amazon_only(staff: Caller, galleries: Galleries) -> None:
    for name in ("José", "a b", "face 1", "x" * 129, ""):
        refused(staff("CreateUser", **STAFF, UserId=name), "InvalidParameterException", "UserId")
    for name in ("a b", "x" * 200):
        refused(staff("DeleteUser", **STAFF, UserId=name), "ResourceNotFoundException", "The user does not exist")
    create_subject(galleries, "staff", "a b")
    assert staff.ok("DeleteUser", **STAFF, UserId="a b") == {}


def test_a_subject_with_a_name_like_that_of_a_face_is_a_user(staff: Caller, galleries: Galleries) -> None:
    first, *others = enrol(galleries, "face of John", b"1", b"2", b"3")
    (other,) = enrol(galleries, "face 00000000-0000-0000-0000-000000000000", b"4")
    (longer,) = enrol(galleries, f"face {face_id(b'5'.ljust(32))} of John", b"5")
    staff.ok("CreateUser", **STAFF, UserId="u")
    assert [user["UserId"] for user in staff.ok("ListUsers", **STAFF)["Users"]] == [
        *("face of John", "face 00000000-0000-0000-0000-000000000000", f"face {longer} of John", "u")
    ]
    assert staff.ok("DescribeCollection", **STAFF)["UserCount"] == 4
    assert {face["UserId"] for face in staff.ok("ListFaces", **STAFF, UserId="face of John")["Faces"]} == {
        "face of John"
    }
    kept = staff.ok("DeleteFaces", **STAFF, FaceIds=[first, other])["UnsuccessfulFaceDeletions"]
    assert [one["Reasons"] for one in kept] == [["ASSOCIATED_TO_AN_EXISTING_USER"]] * 2
    refusals = staff.ok("AssociateFaces", **STAFF, UserId="u", FaceIds=[first], UserMatchThreshold=0)
    assert refusals["UnsuccessfulFaceAssociations"][0]["Reasons"] == ["ASSOCIATED_TO_A_DIFFERENT_USER"]
    found = staff.ok("SearchUsers", **STAFF, FaceId=others[0], UserMatchThreshold=0)["UserMatches"]
    assert "face of John" in [match["User"]["UserId"] for match in found]
    assert names(galleries)["face of John"] == 3


def test_a_photo_that_joins_a_face_is_neither_lost_nor_moved_with_it(staff: Caller, galleries: Galleries) -> None:
    (ann,), (bob,) = staff.index(ANN), staff.index(BOB)
    (example,) = enrol(galleries, f"face {ann}", b"example")
    staff.ok("CreateUser", **STAFF, UserId="u")
    assert staff.ok("DeleteFaces", **STAFF, FaceIds=[ann, bob])["DeletedFaces"] == [bob]
    assert staff.ok("AssociateFaces", **STAFF, UserId="u", FaceIds=[ann])["AssociatedFaces"] == []
    assert [user["UserId"] for user in staff.ok("ListUsers", **STAFF)["Users"]] == [f"face {ann}", "u"]
    apart = staff.ok("DisassociateFaces", **STAFF, UserId=f"face {ann}", FaceIds=[ann])
    assert apart["DisassociatedFaces"] == [{"FaceId": ann}]
    assert names(galleries) == {f"face {ann}": 1, f"face {ann} 2": 1, "u": 0}
    assert staff.ok("AssociateFaces", **STAFF, UserId="u", FaceIds=[ann])["AssociatedFaces"] == [{"FaceId": ann}]
    staff.ok("DeleteUser", **STAFF, UserId="u")
    assert staff.ok("DeleteFaces", **STAFF, FaceIds=[ann, example])["DeletedFaces"] == [ann]
    assert names(galleries) == {f"face {ann}": 1}


def test_a_face_without_a_user_is_no_user(staff: Caller, galleries: Galleries) -> None:
    (ann,), (bob,) = staff.index(ANN), staff.index(BOB)
    for operation, members in (
        ("DeleteUser", {}),
        ("ListFaces", {}),
        ("SearchUsers", {}),
        ("AssociateFaces", {"FaceIds": [bob]}),
        ("DisassociateFaces", {"FaceIds": [ann]}),
    ):
        answer = staff(operation, **STAFF, UserId=f"face {ann}", **members)
        refused(answer, "ResourceNotFoundException", "The user does not exist")
    assert names(galleries) == {f"face {ann}": 1, f"face {bob}": 1}
    assert staff.ok("DescribeCollection", **STAFF)["UserCount"] == 0


def test_a_subject_that_has_the_name_of_a_face_blocks_nothing(staff: Caller, galleries: Galleries) -> None:
    (ann,), (bob,) = staff.index(ANN), staff.index(BOB)
    staff.ok("CreateUser", **STAFF, UserId="u")
    staff.ok("AssociateFaces", **STAFF, UserId="u", FaceIds=[ann, bob], UserMatchThreshold=0)
    enrol(galleries, f"face {ann}", b"another")
    create_subject(galleries, "staff", f"face {bob}")
    assert len(staff.ok("DisassociateFaces", **STAFF, UserId="u", FaceIds=[ann])["DisassociatedFaces"]) == 1
    assert staff.ok("DeleteUser", **STAFF, UserId="u") == {}
    assert names(galleries) == {f"face {ann}": 1, f"face {ann} 2": 1, f"face {bob}": 1}
    assert "UserId" not in staff.ok("ListFaces", **STAFF, FaceIds=[ann])["Faces"][0]
    assert staff.index(ANN) == [ann]  # which is stored already
    assert staff.ok("DeleteFaces", **STAFF, FaceIds=[ann, bob])["DeletedFaces"] == [ann, bob]
    assert staff.index(ANN) == [ann]
    assert names(galleries) == {f"face {ann}": 1, f"face {ann} 2": 1}
    assert not check_consistency(galleries, "staff").faults


def test_a_face_that_is_indexed_again_joins_only_a_subject_without_contents(
    staff: Caller, galleries: Galleries
) -> None:
    (ann,) = staff.index(ANN)
    (template,) = read_subject(galleries, "staff", f"face {ann}")[1]
    erase_template(galleries, "staff", f"face {ann}", template.key)
    assert staff.ok("ListUsers", **STAFF)["Users"] == [{"UserId": f"face {ann}", "UserStatus": "CREATED"}]
    assert staff.index(ANN) == [ann]
    assert names(galleries) == {f"face {ann}": 1}
    staff.ok("DeleteFaces", **STAFF, FaceIds=[ann])
    create_subject(galleries, "staff", f"face {ann}", expires=2e9)
    staff.index(ANN)
    assert names(galleries) == {f"face {ann}": 0, f"face {ann} 2": 1}


def test_faces_that_leave_a_user_expire_when_the_user_would(staff: Caller, galleries: Galleries) -> None:
    due = 2e9
    for user in ("u", "v"):
        create_subject(galleries, "staff", user, expires=due)
    first, second = enrol(galleries, "u", b"1", b"2")
    (third,) = enrol(galleries, "v", b"3")
    staff.ok("DisassociateFaces", **STAFF, UserId="u", FaceIds=[first])
    staff.ok("DeleteUser", **STAFF, UserId="u")
    staff.ok("DeleteUser", **STAFF, UserId="v")
    for face in (first, second, third):
        (template,) = read_subject(galleries, "staff", f"face {face}")[1]
        assert template.expires == due
    staff.ok("CreateUser", **STAFF, UserId="w")
    staff.ok("AssociateFaces", **STAFF, UserId="w", FaceIds=[first])
    assert [template.expires for template in read_subject(galleries, "staff", "w")[1]] == [due]


def test_faces_are_associated_all_or_none_when_a_user_is_full(staff: Caller, galleries: Galleries) -> None:
    ids = [staff.index(ANN, ExternalImageId=f"copy{copy}")[0] for copy in range(3)]
    galleries.max_templates = 2
    staff.ok("CreateUser", **STAFF, UserId="u")
    refused(staff("AssociateFaces", **STAFF, UserId="u", FaceIds=ids), "ServiceQuotaExceededException")
    assert names(galleries)["u"] == 0
