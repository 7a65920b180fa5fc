"""Requests to a server that is not trusted: each answer has a maximum size and must be complete in a time.

A time limit of each read would not end an answer that sends a byte now and then, so requests run on an event loop,
where a whole one can be cancelled.
"""

from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

import anyio
import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.errors import TakeoverFailed

_IDENTITY = "identity"
_MAX_DIGITS = 18  # of a declared size


class Answer(NamedTuple):
    """An answer.

    Attributes:
        status: HTTP status.
        content: Its body; None if it is larger than allowed.
    """

    status: int
    content: bytes | None


class BoundedClient:
    """Sends GET requests to one server. Threads may share it, between `__enter__` and `__exit__`."""

    def __init__(self, url: str, headers: dict[str, str], read_s: float, answer_s: float) -> None:
        """Prepare a client; it connects with the first request.

        Args:
            url: Address of the server.
            headers: Headers of all requests.
            read_s: Seconds within which the next bytes must arrive.
            answer_s: Seconds within which an answer must be complete.

        Raises:
            TakeoverFailed: The address is invalid.
        """
        headers = {**headers, "accept-encoding": _IDENTITY}  # a small compressed answer may be a large one
        try:
            self._http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=read_s)
        except (httpx2.InvalidURL, ValueError) as error:
            raise TakeoverFailed(f"the address is invalid: {error}") from error
        self._answer_s = answer_s
        self._held = ExitStack()
        self._portal: BlockingPortal

    def __enter__(self) -> Self:
        """Start the event loop."""
        self._portal = self._held.enter_context(start_blocking_portal())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections, and end the event loop; after an error, also with requests that are unanswered."""
        try:
            self._portal.call(self._http.aclose)
        finally:
            self._held.__exit__(kind, error, traceback)

    def get(self, path: str, max_bytes: int) -> Answer:
        """Return the answer of a path.

        Args:
            path: The path with its query.
            max_bytes: Maximum size of the answer, beyond which nothing of it is read.

        Raises:
            HTTPError: The server cannot be reached, or the connection broke.
            TakeoverFailed: The answer takes too long, or is compressed.
        """
        return self._portal.call(self._get, path, max_bytes)

    async def _get(self, path: str, max_bytes: int) -> Answer:
        try:
            with anyio.fail_after(self._answer_s):
                async with self._http.stream("GET", path) as response:
                    return Answer(response.status_code, await _read(response, max_bytes))
        except TimeoutError as error:
            raise TakeoverFailed(f"CompreFace did not complete an answer within {self._answer_s:g} s") from error


async def _read(response: httpx2.Response, max_bytes: int) -> bytes | None:
    if response.headers.get("content-encoding", _IDENTITY).strip().lower() != _IDENTITY:
        raise TakeoverFailed("CompreFace sent a compressed answer, although none was asked for")
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:_MAX_DIGITS]) > max_bytes:
        return None
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > max_bytes:
            return None
    return bytes(content)
