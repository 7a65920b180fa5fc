"""Reading of CompreFace's requests: photos as multipart or base64, and options in the query.

Unknown parts, members and options are ignored, as CompreFace does: its clients send some that mean nothing.
"""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.api.intake.body import ReceivedRequest
from service.api.intake.member_errors import at
from service.api.intake.multipart import read_parts
from service.api.intake.photos import photo_bytes
from service.base64_text import decode_base64
from service.errors import MemberInvalid, MemberMissing
from service.settings import RequestSettings
from service.strict_json import parse_object

ALL = -1
"""The number of predictions that stands for all."""

_MULTIPART = "multipart/form-data"

Schema = TypeVar("Schema", bound=BaseModel)


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FaceOptions(_Options):
    """Options of every request with photos.

    Attributes:
        limit: Maximum number of faces, the largest first; 0 for no limit.
        det_prob_threshold: Detection score that a face must exceed; None for that of the detector.
        face_plugins: What to say of a face; `calculator` is its embedding, `landmarks` are its five points.
        status: Whether the answer has times and the names of the models.
        detect_faces: Whether faces are detected; photos that are crops already are not supported.
    """

    limit: Annotated[int, Field(ge=0)] = 0
    det_prob_threshold: Annotated[float | None, Field(ge=0, le=1)] = None
    face_plugins: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    status: bool = False
    detect_faces: bool = True

    @property
    def min_score(self) -> float:
        """Detection score that a face must exceed."""
        return self.det_prob_threshold or 0.0

    def wants(self, plugin: str) -> bool:
        """Return whether the answer has what a plugin says."""
        return plugin in self.face_plugins


class RecognizeOptions(FaceOptions):
    """Options of a recognition.

    Attributes:
        prediction_count: Maximum number of examples for each face, of which a subject may have several; -1 for all.
    """

    prediction_count: int = 1


class ExamplesQuery(_Options):
    """The page of a list of examples.

    Attributes:
        page: Number of the page, from 0.
        size: Examples of a page.
        subject: Name of their subject; None for all.
    """

    page: Annotated[int, Field(ge=0, le=2**31)] = 0
    size: Annotated[int, Field(ge=1, le=10_000)] = 20
    subject: str | None = None


def read_options(received: ReceivedRequest, schema: type[Schema]) -> Schema:
    """Read the options of a request from its query.

    Raises:
        MemberInvalid: An option has a value that it cannot have.
    """
    options = validate_options(dict(received.query), schema)
    if isinstance(options, FaceOptions) and not options.detect_faces:
        raise MemberInvalid("detect_faces=false is not supported: faces are aligned by detected landmarks")
    if isinstance(options, RecognizeOptions) and (options.prediction_count == 0 or options.prediction_count < ALL):
        raise at(MemberInvalid("prediction_count must be at least 1, or -1 for all"), "prediction_count")
    return options


def validate_options(members: dict[str, Any], schema: type[Schema]) -> Schema:
    """Return members as a schema; those without a value have their default.

    Raises:
        MemberInvalid: A member has a value that it cannot have.
        MemberMissing: A member is missing.
    """
    try:
        return schema.model_validate({name: value for name, value in members.items() if value != ""})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise MemberMissing(f"Required parameter '{place}' is not present") from error
        raise MemberInvalid(f"{place}: {first['msg']}") from error


def read_photos(received: ReceivedRequest, limits: RequestSettings, names: Sequence[str]) -> list[bytes]:
    """Read the photos of a request, in the order of their names.

    Args:
        received: The request.
        limits: Limits of requests.
        names: Names of their parts in a form, or of their members in JSON, where they are base64.

    Raises:
        RequestError: The request is malformed; the subclass says how.
        MemberMissing: A photo is missing.
    """
    if received.media_type == _MULTIPART:
        content_type = received.headers.get("content-type", "")
        parts = {part.name: part.content for part in read_parts(received.pieces, content_type, limits.max_images)}
        photos = {name: photo_bytes(parts[name]) for name in names if name in parts}
    else:
        members = read_json(received)
        photos = {name: decode_base64(text) for name in names if isinstance(text := members.get(name), str)}
    missing = next((name for name in names if not photos.get(name)), None)
    if missing is not None:
        raise at(MemberMissing(f"Required part '{missing}' is not present"), missing)
    return [photos[name] for name in names]


def read_json(received: ReceivedRequest) -> dict[str, Any]:
    """Read a request whose body is a JSON object.

    Raises:
        JsonMalformed: The body is not a JSON object.
    """
    return parse_object(received.body())


def read_subject(received: ReceivedRequest) -> str:
    """Read the name of a subject from a JSON object.

    Raises:
        JsonMalformed: The body is not a JSON object.
        MemberInvalid: The name is missing or blank.
    """
    name = read_json(received).get("subject")
    if not isinstance(name, str) or not name.strip():
        raise at(MemberInvalid("Subject name cannot be empty"), "subject")
    return name
