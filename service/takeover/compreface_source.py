"""A running CompreFace: its subjects, its examples and their photos, read through its API."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from service.errors import TakeoverFailed

_PAGE = 500  # examples of a request
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
_TIMEOUT_S = 60.0
_PASSING = {429, 502, 503, 504}
_UNKNOWN_KEY, _NO_IMAGE = {400, 404}, 404
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Example:
    """An example of a subject, by its id."""

    image_id: str
    subject: str


class CompreFaceSource:
    """Reads a recognition service of CompreFace. Threads may share it."""

    def __init__(self, url: str, key: str) -> None:
        """Open a source; it connects with the first call.

        Args:
            url: Address of CompreFace, such as `http://127.0.0.1:8000`.
            key: Key of the recognition service.

        Raises:
            TakeoverFailed: The address or the key is invalid.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise TakeoverFailed("the address must begin with http:// or https:// and name a host")
        if not _KEY.fullmatch(key):
            raise TakeoverFailed("the key is missing, or has characters that no key has")
        self._http = httpx2.Client(base_url=url.rstrip("/"), headers={"x-api-key": key}, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def subjects(self) -> list[str]:
        """Return the names of all subjects, also those without examples.

        Raises:
            TakeoverFailed: CompreFace did not answer, or the key is not one of a recognition service.
        """
        return [str(name) for name in self._json("/api/v1/recognition/subjects", "subjects")]

    def count(self) -> int:
        """Return the number of all examples.

        Raises:
            TakeoverFailed: CompreFace did not answer.
        """
        return int(self._json("/api/v1/recognition/faces?page=0&size=1", "total_elements"))

    def examples(self) -> Iterator[Example]:
        """Yield all examples.

        Raises:
            TakeoverFailed: CompreFace did not answer.
        """
        page = 0
        while faces := self._json(f"/api/v1/recognition/faces?page={page}&size={_PAGE}", "faces"):
            yield from (Example(str(face["image_id"]), str(face["subject"])) for face in faces)
            page += 1

    def photo(self, image_id: str) -> bytes:
        """Return the photo of an example; empty if CompreFace does not keep it.

        Raises:
            TakeoverFailed: CompreFace did not answer.
        """
        answer = self._get(f"/api/v1/recognition/faces/{image_id}/img")
        return b"" if answer.status_code == _NO_IMAGE else self._accepted(answer).content

    def _json(self, path: str, member: str) -> Any:
        answer = self._accepted(self._get(path))
        try:
            return orjson.loads(answer.content)[member]
        except (ValueError, KeyError, TypeError) as error:
            raise TakeoverFailed("what answers at this address is not CompreFace") from error

    def _accepted(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.status_code in _UNKNOWN_KEY:
            raise TakeoverFailed("CompreFace knows no recognition service with this key")
        if not answer.is_success:
            raise TakeoverFailed(f"CompreFace answered with status {answer.status_code}")
        return answer

    def _get(self, path: str) -> httpx2.Response:
        """Send a request until it is answered; pauses double.

        Raises:
            TakeoverFailed: It was not answered.
        """
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                answer = self._http.get(path)
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status_code not in _PASSING:
                return answer
            reason = f"status {answer.status_code}"
        raise TakeoverFailed(f"CompreFace does not answer: {reason}; what was taken over stays, so run it again later")
