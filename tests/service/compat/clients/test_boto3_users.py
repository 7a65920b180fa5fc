"""boto3's client of Amazon Rekognition: users, who have several faces, against the real service."""

from pathlib import Path
from typing import Any

from tests.service.compat.clients.running import Album


def index(rekognition: Any, collection: str, photo: Path) -> str:
    """Store the face of a photo, and return its id."""
    indexed = rekognition.index_faces(CollectionId=collection, Image={"Bytes": photo.read_bytes()})
    face_id: str = indexed["FaceRecords"][0]["Face"]["FaceId"]
    return face_id


def test_users_are_created_listed_and_deleted(rekognition: Any, collection: str) -> None:
    for user in ("ann", "bob", "carl"):
        rekognition.create_user(CollectionId=collection, UserId=user, ClientRequestToken=f"token-{user}")
    paginator = rekognition.get_paginator("list_users")
    pages = list(paginator.paginate(CollectionId=collection, PaginationConfig={"PageSize": 2}))
    assert [len(page["Users"]) for page in pages] == [2, 1]
    assert pages[1]["Users"] == [{"UserId": "carl", "UserStatus": "CREATED"}]
    assert rekognition.describe_collection(CollectionId=collection)["UserCount"] == 3
    rekognition.delete_user(CollectionId=collection, UserId="bob")
    users = rekognition.list_users(CollectionId=collection)["Users"]
    assert [user["UserId"] for user in users] == ["ann", "carl"]


def test_faces_are_associated_found_by_their_users_and_disassociated(
    rekognition: Any, collection: str, album: Album
) -> None:
    (ann, again, third, probe), (bob, *_), (stranger, *_) = album.people
    first, second, last = (index(rekognition, collection, photo) for photo in (ann, again, bob))
    rekognition.create_user(CollectionId=collection, UserId="ann")
    rekognition.create_user(CollectionId=collection, UserId="bob")

    associated = rekognition.associate_faces(
        CollectionId=collection, UserId="ann", FaceIds=[first, second], UserMatchThreshold=70
    )
    assert associated["AssociatedFaces"] == [{"FaceId": first}, {"FaceId": second}]
    assert (associated["UnsuccessfulFaceAssociations"], associated["UserStatus"]) == ([], "ACTIVE")
    refused = rekognition.associate_faces(CollectionId=collection, UserId="ann", FaceIds=[last])
    (failure,) = refused["UnsuccessfulFaceAssociations"]
    assert (failure["FaceId"], failure["Reasons"]) == (last, ["LOW_MATCH_CONFIDENCE"])
    assert failure["Confidence"] < 60
    rekognition.associate_faces(CollectionId=collection, UserId="bob", FaceIds=[last])
    of_ann = rekognition.list_faces(CollectionId=collection, UserId="ann")["Faces"]
    assert {face["FaceId"]: face["UserId"] for face in of_ann} == {first: "ann", second: "ann"}

    def search(photo: Path, **options: Any) -> Any:
        picture = {"Bytes": photo.read_bytes()}
        return rekognition.search_users_by_image(CollectionId=collection, Image=picture, **options)

    found = search(probe)
    assert [match["User"] for match in found["UserMatches"]] == [{"UserId": "ann", "UserStatus": "ACTIVE"}]
    assert found["UserMatches"][0]["Similarity"] >= 80
    assert "BoundingBox" in found["SearchedFace"]["FaceDetail"]
    assert found["UnsearchedFaces"] == []
    assert search(stranger)["UserMatches"] == []
    in_group = search(album.group, UserMatchThreshold=0, MaxUsers=1)
    assert [face["Reasons"] for face in in_group["UnsearchedFaces"]] == [["FACE_NOT_LARGEST"]] * 5
    assert len(in_group["UserMatches"]) == 1

    face = index(rekognition, collection, third)
    by_face = rekognition.search_users(CollectionId=collection, FaceId=face)
    assert by_face["SearchedFace"] == {"FaceId": face}
    assert [match["User"]["UserId"] for match in by_face["UserMatches"]] == ["ann"]
    by_user = rekognition.search_users(CollectionId=collection, UserId="ann", UserMatchThreshold=0)
    assert by_user["SearchedUser"] == {"UserId": "ann"}
    assert [match["User"]["UserId"] for match in by_user["UserMatches"]] == ["bob"]

    kept = rekognition.delete_faces(CollectionId=collection, FaceIds=[first])
    assert kept["DeletedFaces"] == []
    assert kept["UnsuccessfulFaceDeletions"][0]["Reasons"] == ["ASSOCIATED_TO_AN_EXISTING_USER"]
    parted = rekognition.disassociate_faces(CollectionId=collection, UserId="ann", FaceIds=[first, last])
    assert parted["DisassociatedFaces"] == [{"FaceId": first}]
    (failure,) = parted["UnsuccessfulFaceDisassociations"]
    assert (failure["UserId"], failure["Reasons"]) == ("bob", ["ASSOCIATED_TO_A_DIFFERENT_USER"])
    assert rekognition.delete_faces(CollectionId=collection, FaceIds=[first])["DeletedFaces"] == [first]
    rekognition.delete_user(CollectionId=collection, UserId="bob")
    remaining = rekognition.list_faces(CollectionId=collection)["Faces"]
    assert {face["FaceId"]: face.get("UserId") for face in remaining} == {second: "ann", last: None, face: None}
