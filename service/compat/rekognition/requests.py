"""Schemas of Rekognition's requests. Members that are not known are ignored, as newer SDKs may send some.

Lists and maps have a maximum length, and end at their first error: one error for each entry would take many times the
memory of the request.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator
from pydantic.alias_generators import to_pascal

QualityFilter = Literal["NONE", "AUTO", "LOW", "MEDIUM", "HIGH"]

CollectionId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.\-]{1,255}$")]
NewUserId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.\-:]{1,128}$")]
UserId = Annotated[str, Field(min_length=1)]  # one that exists may have been named by another surface
FaceId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Threshold = Annotated[float, Field(ge=0, le=100)]
Token = Annotated[str, Field(min_length=1, max_length=255)]
TagKey = Annotated[str, Field(min_length=1, max_length=128)]
TagValue = Annotated[str, Field(max_length=256)]


class RekognitionRequest(BaseModel):
    """A request; the names of its members begin with a capital. A member that is null is missing."""

    model_config = ConfigDict(alias_generator=to_pascal, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        return {name: member for name, member in members.items() if member is not None}


class S3Object(RekognitionRequest):
    """A photo in a bucket."""

    bucket: Annotated[str, Field(pattern=r"^[0-9A-Za-z.\-_]{3,255}$")]
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    version: str | None = None


class Image(RekognitionRequest):
    """A photo: its bytes as base64, or an object in a bucket."""

    bytes: str | None = None
    s3_object: Annotated[S3Object | None, Field(alias="S3Object")] = None

    @model_validator(mode="after")
    def _has_one(self) -> "Image":
        if (self.bytes is None) == (self.s3_object is None):
            raise ValueError("give either Bytes or S3Object")
        return self


class InCollection(RekognitionRequest):
    """A request that names a collection, which is a gallery."""

    collection_id: CollectionId


class CreateCollection(InCollection):
    """The collection to create."""

    tags: Annotated[dict[TagKey, TagValue], FailFast(), Field(default_factory=dict, max_length=200)]


class ListCollections(RekognitionRequest):
    """A page of collections."""

    next_token: Token | None = None
    max_results: Annotated[int, Field(ge=0, le=4096)] = 1000


class IndexFaces(InCollection):
    """A photo whose faces are to be stored."""

    image: Image
    external_image_id: Annotated[str | None, Field(pattern=r"^[a-zA-Z0-9_.\-:]{1,255}$")] = None
    max_faces: Annotated[int | None, Field(ge=1)] = None
    quality_filter: QualityFilter = "AUTO"


class ListFaces(InCollection):
    """A page of faces."""

    next_token: Token | None = None
    max_results: Annotated[int, Field(ge=0, le=4096)] = 1000
    user_id: UserId | None = None
    face_ids: Annotated[tuple[FaceId, ...] | None, FailFast(), Field(min_length=1, max_length=4096)] = None


class DeleteFaces(InCollection):
    """Faces to erase."""

    face_ids: Annotated[tuple[FaceId, ...], FailFast(), Field(min_length=1, max_length=4096)]


class SearchFaces(InCollection):
    """A stored face to search for."""

    face_id: FaceId
    max_faces: Annotated[int, Field(ge=1, le=4096)] = 80
    face_match_threshold: Threshold = 80.0


class SearchFacesByImage(InCollection):
    """A photo whose largest face is to be searched for."""

    image: Image
    max_faces: Annotated[int, Field(ge=1, le=4096)] = 80
    face_match_threshold: Threshold = 80.0
    quality_filter: QualityFilter = "NONE"


class CompareFaces(RekognitionRequest):
    """A photo whose largest face is to be compared with the faces of another."""

    source_image: Image
    target_image: Image
    similarity_threshold: Threshold = 80.0
    quality_filter: QualityFilter = "NONE"


class DetectFaces(RekognitionRequest):
    """A photo whose faces are to be detected."""

    image: Image
    attributes: Any = None


class OfUser(InCollection):
    """A request that names a user, who is a subject."""

    user_id: UserId


class ChangeOfUser(OfUser):
    """A change of a user, which SDKs may repeat with the same token."""

    client_request_token: Annotated[str | None, Field(pattern=r"^[a-zA-Z0-9\-_]{1,64}$")] = None


class CreateUser(ChangeOfUser):
    """The user to create, whose id has the form of Amazon."""

    user_id: NewUserId


class ListUsers(InCollection):
    """A page of users."""

    next_token: Token | None = None
    max_results: Annotated[int, Field(ge=1, le=500)] = 500


class AssociateFaces(ChangeOfUser):
    """Faces that are to belong to a user."""

    face_ids: Annotated[tuple[FaceId, ...], FailFast(), Field(min_length=1, max_length=100)]
    user_match_threshold: Threshold = 75.0


class DisassociateFaces(ChangeOfUser):
    """Faces that are no longer to belong to a user."""

    face_ids: Annotated[tuple[FaceId, ...], FailFast(), Field(min_length=1, max_length=100)]


class SearchUsers(InCollection):
    """A user or a stored face to search for."""

    user_id: UserId | None = None
    face_id: FaceId | None = None
    user_match_threshold: Threshold = 80.0
    max_users: Annotated[int, Field(ge=1, le=500)] = 500

    @model_validator(mode="after")
    def _has_one(self) -> "SearchUsers":
        if (self.user_id is None) == (self.face_id is None):
            raise ValueError("give either UserId or FaceId")
        return self


class SearchUsersByImage(InCollection):
    """A photo whose largest face is to be searched for among users."""

    image: Image
    user_match_threshold: Threshold = 80.0
    max_users: Annotated[int, Field(ge=1, le=500)] = 500
    quality_filter: QualityFilter = "NONE"
