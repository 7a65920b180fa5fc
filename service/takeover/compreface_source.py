"""A running CompreFace: its subjects, its examples and their photos, read through its API.

What it sends is not trusted: an address may be mistaken, and whoever answers there gets neither the memory nor the time
of this machine, nor the key for other paths.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from models.errors import ImageTooManyBytes
from models.imaging import ImageLimits
from service.errors import TakeoverFailed
from service.takeover.bounded_http import Answer, BoundedClient

_PAGE = 500  # examples of a request
_MORE_PAGES = 100  # than there were examples for at the first page, for those that are added meanwhile
_MAX_EXAMPLES = 10_000_000
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
_READ_S, _ANSWER_S = 60.0, 120.0
_MAX_PAGE_BYTES = 4 * 2**20  # 8 KiB for each example
_MAX_NAMES_BYTES = 64 * 2**20  # the names of a million subjects
_PASSING = {429, 502, 503, 504}
_UNKNOWN_KEY, _NO_IMAGE, _SUCCESS = {400, 404}, 404, range(200, 300)
_KEY = re.compile(r"[!-~]+")
_IMAGE_ID = re.compile(r"[0-9A-Za-z-]{1,64}")  # CompreFace's are UUIDs; nothing that means something in a path

_STRANGER = "what answers at this address is not CompreFace"


@dataclass(frozen=True, slots=True)
class Example:
    """An example of a subject, by its id."""

    image_id: str
    subject: str


class CompreFaceSource:
    """Reads a recognition service of CompreFace. Threads may share it."""

    def __init__(self, url: str, key: str, max_photo_bytes: int = ImageLimits().max_bytes) -> None:
        """Prepare a source; it connects with the first call.

        Args:
            url: Address of CompreFace, such as `http://127.0.0.1:8000`.
            key: Key of the recognition service.
            max_photo_bytes: Maximum size of a photo.

        Raises:
            TakeoverFailed: The address or the key is invalid.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise TakeoverFailed(f"the address is invalid: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise TakeoverFailed("the address must begin with http:// or https:// and name a host")
        if not _KEY.fullmatch(key):
            raise TakeoverFailed("the key is missing, or has characters that no key has")
        self._http = BoundedClient(url.rstrip("/"), {"x-api-key": key}, _READ_S, _ANSWER_S)
        self._max_photo_bytes = max_photo_bytes

    def __enter__(self) -> Self:
        """Return the source itself."""
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.__exit__(kind, error, traceback)

    def subjects(self) -> list[str]:
        """Return the names of all subjects, also those without examples.

        Raises:
            TakeoverFailed: CompreFace did not answer, or the key is not one of a recognition service.
        """
        names = self._json("/api/v1/recognition/subjects", _MAX_NAMES_BYTES).get("subjects")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TakeoverFailed(f"{_STRANGER}: its subjects are not a list of names")
        return names

    def count(self) -> int:
        """Return the number of all examples.

        Raises:
            TakeoverFailed: CompreFace did not answer.
        """
        return _total(self._json("/api/v1/recognition/faces?page=0&size=1", _MAX_PAGE_BYTES))

    def examples(self) -> Iterator[Example]:
        """Yield all examples, each once.

        Raises:
            TakeoverFailed: CompreFace did not answer, or its pages have no end.
        """
        seen: set[str] = set()
        page, last = 0, 0
        while True:
            answer = self._json(f"/api/v1/recognition/faces?page={page}&size={_PAGE}", _MAX_PAGE_BYTES)
            faces = answer.get("faces")
            if not isinstance(faces, list):
                raise TakeoverFailed(f"{_STRANGER}: its examples are not a list")
            if not faces:
                return
            if not page:
                last = min(_total(answer), _MAX_EXAMPLES) // _PAGE + _MORE_PAGES
            examples = {example.image_id: example for example in map(_example, faces)}
            new = examples.keys() - seen
            if not new or page > last:
                raise TakeoverFailed("CompreFace's list of examples has no end; what was taken over stays")
            seen |= new
            yield from (example for image_id, example in examples.items() if image_id in new)
            page += 1

    def photo(self, image_id: str) -> bytes:
        """Return the photo of an example; empty if CompreFace does not keep it.

        Raises:
            ImageTooManyBytes: The photo is larger than allowed.
            TakeoverFailed: CompreFace did not answer.
        """
        answer = self._get(f"/api/v1/recognition/faces/{image_id}/img", self._max_photo_bytes)
        if answer.status == _NO_IMAGE:
            return b""
        content = _accepted(answer)
        if content is None:
            raise ImageTooManyBytes(f"the photo is larger than {self._max_photo_bytes} bytes")
        return content

    def _json(self, path: str, max_bytes: int) -> dict[str, Any]:
        content = _accepted(self._get(path, max_bytes))
        if content is None:
            raise TakeoverFailed(f"{_STRANGER}: its answer is larger than {max_bytes:,} bytes")
        try:
            members = orjson.loads(content)
        except ValueError as error:
            raise TakeoverFailed(_STRANGER) from error
        if not isinstance(members, dict):
            raise TakeoverFailed(_STRANGER)
        return members

    def _get(self, path: str, max_bytes: int) -> Answer:
        """Send a request until it is answered; pauses double.

        Raises:
            TakeoverFailed: It was not answered.
        """
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                answer = self._http.get(path, max_bytes)
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status not in _PASSING:
                return answer
            reason = f"status {answer.status}"
        raise TakeoverFailed(f"CompreFace does not answer: {reason}; what was taken over stays, so run it again later")


def _accepted(answer: Answer) -> bytes | None:
    """Return the body of an answer; None if it is larger than allowed.

    Raises:
        TakeoverFailed: The answer is a refusal.
    """
    if answer.status in _UNKNOWN_KEY:
        raise TakeoverFailed("CompreFace knows no recognition service with this key")
    if answer.status not in _SUCCESS:
        raise TakeoverFailed(f"CompreFace answered with status {answer.status}")
    return answer.content


def _total(answer: dict[str, Any]) -> int:
    total = answer.get("total_elements")
    if type(total) is not int or total < 0:
        raise TakeoverFailed(f"{_STRANGER}: its number of examples is none")
    return total


def _example(face: object) -> Example:
    image_id, subject = (face.get("image_id"), face.get("subject")) if isinstance(face, dict) else (None, None)
    if not (isinstance(image_id, str) and isinstance(subject, str) and _IMAGE_ID.fullmatch(image_id)):
        raise TakeoverFailed(f"{_STRANGER}: one of its examples has no id or no subject")
    return Example(image_id, subject)
