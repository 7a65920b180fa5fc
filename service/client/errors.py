"""The errors of the client.

ClientError
├── VultusProblem      the service answered with a problem document
│   ├── NoFace         ask for another photo
│   ├── SeveralFaces   ask for another photo, or choose a face with `faces`
│   └── NotFound       no such gallery, subject or template
└── NoAnswer           no answer of the service arrived: the connection failed, or something else answered
    └── OutOfTime      the time limit of the call passed
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """A call failed."""


class VultusProblem(ClientError):
    """The service refused a request, or failed, with a problem document (RFC 9457).

    Attributes:
        code: Stable code of the cause, such as `no_face`; the table of errors in `service/README.md` lists all.
        status: HTTP status.
        detail: A sentence for people, which may change.
        part: Part or member of the request that caused it, such as `images.0`.
        request_id: Id under which the log of the service has the request.
        duplicate_of: Other subject that has the same photo, if that is the cause.
    """

    def __init__(
        self,
        code: str,
        status: int,
        detail: str,
        part: str | None = None,
        request_id: str | None = None,
        duplicate_of: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.part = part
        self.request_id = request_id
        self.duplicate_of = duplicate_of


class NoFace(VultusProblem):
    """A photo has no face."""


class SeveralFaces(VultusProblem):
    """A photo has several faces, and the request requires a single one."""


class NotFound(VultusProblem):
    """The gallery, subject, template or route does not exist, or not for this key."""


class NoAnswer(ClientError):
    """No answer of the service arrived: the connection failed, or something else answered."""


class OutOfTime(NoAnswer, TimeoutError):
    """The time limit of the call passed."""


_OF_CODES = {"no_face": NoFace, "several_faces": SeveralFaces}
_NOT_FOUND = 404


def problem_from(members: Mapping[str, Any]) -> VultusProblem:
    """Return the error for a problem document.

    Raises:
        KeyError: The members are not those of a problem document.
    """
    code, status = str(members["code"]), int(members["status"])
    kind = NotFound if status == _NOT_FOUND else _OF_CODES.get(code, VultusProblem)
    optional = (members.get(name) for name in ("part", "request_id", "duplicate_of"))
    return kind(code, status, str(members["detail"]), *optional)
