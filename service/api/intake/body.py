"""Receiving of request bodies. The event loop only collects the pieces of a body; worker threads parse it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import Headers, QueryParams

from models.deadline import Deadline
from models.errors import EngineStopped
from service.api.access import grant_of
from service.audit.records import Event
from service.errors import BodyIncomplete, BodyTooLarge, BodyTooSlow, MediaTypeUnsupported
from service.security.scopes import Grant
from service.settings import RequestSettings


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedRequest:
    """A request whose body was received completely and is not parsed yet.

    Attributes:
        headers: Headers of the request.
        query: Query parameters of the request.
        pieces: Pieces of the body, as the network delivered them.
        request_id: Id of the request, for problem documents.
        grant: What the request may do.
        events: What is to be recorded of the request before it is answered.
    """

    headers: Headers
    query: QueryParams
    pieces: Sequence[bytes]
    request_id: str
    grant: Grant
    events: list[Event] = field(default_factory=list)

    @property
    def media_type(self) -> str:
        """Media type of the body without parameters; empty if the request declares none."""
        return bare_media_type(self.headers.get("content-type"))

    def body(self) -> bytes:
        """Return the body as one piece."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


def bare_media_type(header: str | None) -> str:
    """Return the media type of a `Content-Type` header in lower case and without parameters; empty without a header."""
    return (header or "").partition(";")[0].strip().lower()


@contextmanager
def shutdown_as_error() -> Iterator[None]:
    """Raise `EngineStopped` if the block is cancelled because the shutdown time of the service has passed.

    Raises:
        EngineStopped: The block was cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        raise EngineStopped("the service is shutting down; retry later") from error


async def arriving_pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they arrive.

    Raises:
        MediaTypeUnsupported: The body is compressed.
        BodyIncomplete: The server delivered less than the client declared.
        ClientDisconnect: The client disconnected.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise MediaTypeUnsupported(f"the body has the Content-Encoding {encoding!r}; send it without compression")
    size = 0
    async for piece in request.stream():
        if piece:
            size += len(piece)
            yield piece
    declared = declared_size(request)
    if declared is None:
        missing = not size and "upgrade" in request.headers and "transfer-encoding" in request.headers
    else:
        missing = size < declared
    if missing:  # some servers lose the body of a request that offers an upgrade
        raise BodyIncomplete("the body did not reach the service whole; send it again, without the header `Upgrade`")


def declared_size(request: Request) -> int | None:
    """Return the size of the body that the request declares, in bytes."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else None


async def receive(
    request: Request, limits: RequestSettings, take: Callable[[int], None], deadline: Deadline
) -> ReceivedRequest:
    """Receive the body of a request.

    Args:
        request: The request.
        limits: Limits of requests.
        take: Takes the size of each piece from the memory budget, or raises `Overloaded`.
        deadline: Deadline of the request.

    Raises:
        MediaTypeUnsupported: The body is compressed.
        BodyIncomplete: The server delivered less than the client declared.
        BodyTooLarge: The body declares, or has, more bytes than allowed.
        BodyTooSlow: The body did not arrive before the deadline.
        Overloaded: The body does not fit into the memory budget.
        EngineStopped: The service is shutting down.
    """
    pieces = await receive_pieces(request, limits.max_bytes, take, deadline)
    return ReceivedRequest(request.headers, request.query_params, pieces, request.state.request_id, grant_of(request))


async def receive_pieces(
    request: Request, max_bytes: int, take: Callable[[int], None], deadline: Deadline
) -> list[bytes]:
    """Receive the body of a request as the network delivers it.

    Args:
        request: The request.
        max_bytes: Maximum size of the body.
        take: Takes the size of each piece from the memory budget, or raises `Overloaded`.
        deadline: Deadline of the request.

    Raises:
        VultusError: As `receive`.
    """
    declared = declared_size(request)
    if declared is not None and declared > max_bytes:
        raise BodyTooLarge(f"the body has {declared} bytes; at most {max_bytes} are accepted")
    pieces, size = [], 0
    try:
        with shutdown_as_error():
            async with asyncio.timeout(deadline.remaining_s):
                async for piece in arriving_pieces(request):
                    size += len(piece)
                    if size > max_bytes:
                        raise BodyTooLarge(f"the body exceeds {max_bytes} bytes")
                    take(len(piece))
                    pieces.append(piece)
    except TimeoutError as error:
        raise BodyTooSlow("the body did not arrive within the time limit of the request") from error
    return pieces
