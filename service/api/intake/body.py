"""A request as it came. The event loop does no more than put its pieces aside: reading them is work for threads."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import Headers, QueryParams

from models.deadline import Deadline
from models.errors import EngineStopped
from service.errors import BodyTooLarge, BodyTooSlow
from service.settings import RequestSettings


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedRequest:
    """A request whose body has come whole, and is not read yet.

    Attributes:
        headers, query: As they came.
        pieces: Of the body, as the network delivered them.
        request_id: For problems.
    """

    headers: Headers
    query: QueryParams
    pieces: Sequence[bytes]
    request_id: str

    @property
    def media_type(self) -> str:
        """Of the body, without parameters; empty if none was named."""
        return bare_media_type(self.headers.get("content-type"))

    def body(self) -> bytes:
        """Return the body in one piece."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


def bare_media_type(header: str | None) -> str:
    """Return a media type without its parameters."""
    return (header or "").partition(";")[0].strip().lower()


@contextmanager
def shutdown_as_error() -> Iterator[None]:
    """Answer what the service cuts off when it ends and the time for last answers is over.

    Raises:
        EngineStopped: It was cut off.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        raise EngineStopped("the service is ending; ask again") from error


async def receive(
    request: Request, limits: RequestSettings, take: Callable[[int], None], deadline: Deadline
) -> ReceivedRequest:
    """Wait for the body.

    Args:
        request: Whose it is.
        limits: What it may hold.
        take: Told the bytes of each piece; may refuse them.
        deadline: Says how long to wait.

    Raises:
        BodyTooLarge: It announces, or has, more bytes than allowed.
        BodyTooSlow: It did not come in time.
        Overloaded: There is no memory left for it.
        EngineStopped: The service ends.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_bytes:
        raise BodyTooLarge(f"the body has {announced} bytes; at most {limits.max_bytes} are accepted")
    pieces, size = [], 0
    try:
        with shutdown_as_error():
            async with asyncio.timeout(deadline.remaining_s):
                async for piece in request.stream():
                    size += len(piece)
                    if size > limits.max_bytes:
                        raise BodyTooLarge(f"the body has more than {limits.max_bytes} bytes")
                    if piece:
                        take(len(piece))
                        pieces.append(piece)
    except TimeoutError as error:
        raise BodyTooSlow("the body did not come within the time for the whole request") from error
    return ReceivedRequest(request.headers, request.query_params, pieces, request.state.request_id)
