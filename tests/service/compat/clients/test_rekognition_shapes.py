"""The answers of Rekognition's protocol have the reviewed members and types, which are those of Amazon's own model."""

import base64
import re
from pathlib import Path
from typing import Any

from botocore.model import ListShape, ServiceModel, Shape, StringShape, StructureShape

from tests.service.compat.clients.aws import signed_call
from tests.service.compat.clients.running import BUCKET, Album, Service
from tests.service.compat.clients.shapes import require_reviewed, shape

UNKNOWN = "00000000-0000-0000-0000-000000000000"
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
    "timestamp": (int, float),
}
OTHERWISE = {"IndexFacesModelVersion"}  # digits and dots at Amazon; here it names the embedding contract


class Recorder:
    """Sends signed requests to a collection, and keeps the shapes of the answers by the titles of the requests."""

    def __init__(self, server: Service, key: dict[str, Any], collection: str, model: ServiceModel) -> None:
        self.shapes: dict[str, Any] = {}
        self._server = server
        self._key = key
        self._collection = collection
        self._model = model

    def __call__(self, operation: str, because: str = "", **members: Any) -> Any:
        """Send a request, and return its answer."""
        body = {"CollectionId": self._collection, **members}
        answer = signed_call(self._server, self._key, operation, body)
        content, title = answer.json(), f"{operation} {because}".strip()
        self.shapes[title] = {
            "status": answer.status_code,
            "type": answer.headers["content-type"],
            "error": content.get("__type"),
            "body": shape(content),
        }
        if answer.status_code == 200:
            require_model(self._model.operation_model(operation).output_shape, content, operation)
        return content


def require_model(model: Shape, value: Any, place: str) -> None:
    """Check that a value has only members that Amazon's model knows, with the types and words that it knows."""
    if isinstance(model, StructureShape):
        assert set(value) <= set(model.members), place
        assert set(model.required_members) <= set(value), place
        for name, member in value.items():
            require_model(model.members[name], member, f"{place}.{name}")
    elif isinstance(model, ListShape):
        for element in value:
            require_model(model.member, element, f"{place}[]")
    else:
        assert isinstance(value, TYPES[model.type_name]), place
        if isinstance(model, StringShape):
            assert not model.enum or value in model.enum, place
            pattern = str(model.metadata.get("pattern", ""))
            assert not pattern or model.name in OTHERWISE or re.fullmatch(pattern, str(value)), place


def image(photo: Path) -> dict[str, Any]:
    return {"Bytes": base64.b64encode(photo.read_bytes()).decode()}


def test_answers_of_rekognition_have_the_reviewed_shapes(
    server: Service, aws_key: dict[str, Any], rekognition: Any, collection_id: str, album: Album
) -> None:
    """After an intended change, run REVIEW_COMPAT=1 pytest -k reviewed and review the difference."""
    send = Recorder(server, aws_key, collection_id, rekognition.meta.service_model)
    send("DescribeCollection", "of an unknown collection")
    send("CreateCollection", Tags={"team": "door"})
    send("CreateCollection", "that exists")
    send("CreateCollection", "out of reach", CollectionId="elsewhere")
    send("ListCollections", MaxResults=1000)
    faces = send_faces(send, album)
    send_users(send, album, faces)
    send_photos(send, album)
    send("DescribeCollection")
    send("DeleteFaces", FaceIds=[faces[2], UNKNOWN, faces[0]])
    send("DeleteCollection")
    send("DetectLabels", "which is not supported")
    require_reviewed("rekognition", send.shapes)


def send_faces(send: Recorder, album: Album) -> list[str]:
    """Store and search for faces, and return the ids of three."""
    (ann, again, *_), (bob, *_), (stranger, *_) = album.people
    ids = []
    for photo in (ann, again, bob):
        answer = send("IndexFaces", Image=image(photo), ExternalImageId="external")
        ids.append(answer["FaceRecords"][0]["Face"]["FaceId"])
    send("IndexFaces", "of a group", Image=image(album.group), MaxFaces=2, QualityFilter="NONE")
    send("IndexFaces", "without a face", Image=image(album.nobody))
    send("ListFaces")
    send("ListFaces", "of a page", MaxResults=1)
    send("ListFaces", "with a wrong token", NextToken="x")
    send("SearchFaces", FaceId=ids[0], FaceMatchThreshold=0)
    send("SearchFaces", "for an unknown face", FaceId=UNKNOWN)
    send("SearchFacesByImage", Image=image(again))
    send("SearchFacesByImage", "of a stranger", Image=image(stranger))
    send("SearchFacesByImage", "without a face", Image=image(album.nobody))
    return ids


def send_users(send: Recorder, album: Album, faces: list[str]) -> None:
    first, second, last = faces
    again = album.people[0][1]
    send("CreateUser", UserId="ann")
    send("CreateUser", "who exists", UserId="ann")
    send("CreateUser", "of another face", UserId="bob")
    send("AssociateFaces", UserId="ann", FaceIds=[first, second])
    send("AssociateFaces", "in vain", UserId="ann", FaceIds=[UNKNOWN, last], UserMatchThreshold=90)
    send("ListUsers")
    send("ListUsers", "of a page", MaxResults=1)
    send("ListFaces", "of a user", UserId="ann")
    send("SearchUsers", "for a face", FaceId=second)
    send("SearchUsers", "for a user", UserId="ann", UserMatchThreshold=0)
    send("SearchUsersByImage", Image=image(again))
    send("SearchUsersByImage", "of a group", Image=image(album.group))
    send("DisassociateFaces", UserId="ann", FaceIds=[second])
    send("DisassociateFaces", "in vain", UserId="ann", FaceIds=[UNKNOWN])
    send("DeleteUser", UserId="bob")
    send("DeleteUser", "who is unknown", UserId="bob")


def send_photos(send: Recorder, album: Album) -> None:
    (ann, again, *_), *_ = album.people
    send("CompareFaces", SourceImage=image(ann), TargetImage=image(again))
    send("CompareFaces", "with a group", SourceImage=image(ann), TargetImage=image(album.group))
    send("CompareFaces", "without a face", SourceImage=image(ann), TargetImage=image(album.nobody))
    send("DetectFaces", Image=image(album.group), Attributes=["ALL"])
    send("DetectFaces", "without a face", Image=image(album.nobody))
    send("DetectFaces", "of an object", Image={"S3Object": {"Bucket": BUCKET, "Name": ann.name}})
    send("DetectFaces", "of a missing object", Image={"S3Object": {"Bucket": BUCKET, "Name": "missing.jpg"}})
    send("DetectFaces", "of no photo", Image={"Bytes": base64.b64encode(b"text").decode()})
    send("DetectFaces", "without a photo", Image={})
