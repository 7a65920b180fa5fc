"""Access of clients of CompreFace: a UUID that belongs to one service and, for recognition, to one gallery."""

from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from models.errors import VultusError
from service.api.access import path_of
from service.compat.compreface.errors import error_response
from service.errors import AccessError, KeyMalformed, KeyMissing, KeyWrong, SeveralKeys
from service.security.guard import Access, Guard

PREFIX = "/api/v1"

_STATIC = "static"  # its paths have the key in them, as in addresses of images on web pages
_SERVICE_OF = {"recognition": "recognition", "detection": "detection", "verification": "verification"}


class ServiceKeys:
    """Admits requests by the header `x-api-key`, which every request needs: the key says which gallery is meant."""

    def __init__(self, guard: Guard) -> None:
        """Admit what a guard admits."""
        self._guard = guard

    def is_for(self, scope: Scope) -> bool:
        """Return whether the path is one of CompreFace's API."""
        path = path_of(scope)
        return path == PREFIX or path.startswith(f"{PREFIX}/")

    async def admit(self, scope: Scope, receive: Receive, _held: ExitStack) -> tuple[Access, Receive]:
        """Return what a request may do.

        Raises:
            KeyMissing: The request has no key.
            SeveralKeys: The request has several keys.
            KeyMalformed: The key is not a UUID.
            KeyWrong: No such key was made, or it belongs to another service.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        keys = _sent_keys(scope)
        if len(keys) > 1:  # a proxy may check another one than the service
            raise SeveralKeys("the request has several keys; send one")
        text = keys[0].strip() if keys else ""
        if not text:
            raise KeyMissing("the header x-api-key is missing")
        access = self._guard.admit_uuid(text)
        assert access.key is not None  # of an admitted UUID
        if access.key.service != _service(scope):
            raise KeyWrong("this key belongs to another service")
        return access, receive

    def refusal(self, error: VultusError, scope: Scope) -> Response:
        """Return the response for a request that is not admitted."""
        message = None
        if isinstance(error, AccessError) and not isinstance(error, KeyMissing | KeyMalformed | SeveralKeys):
            (key,) = _sent_keys(scope)
            message = f"{_service(scope).capitalize()} service with API Key {key.strip()} not found"
        return error_response(error, scope["state"], message)


def _segments(scope: Scope) -> list[str]:
    return path_of(scope).removeprefix(PREFIX).strip("/").split("/")


def _service(scope: Scope) -> str:
    """Return the service of a path; that of a path that does not exist is recognition."""
    return _SERVICE_OF.get(_segments(scope)[0], "recognition")


def _sent_keys(scope: Scope) -> list[str]:
    """Return the key in the path, and those in headers."""
    segments = _segments(scope)
    in_path = [segments[1]] if segments[0] == _STATIC and len(segments) > 1 else []
    return in_path + Headers(scope=scope).getlist("x-api-key")
