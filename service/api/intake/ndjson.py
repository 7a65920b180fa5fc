"""Bodies of any length, line by line: read as they come, answered as they are dealt with, in bounded memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from models.errors import VultusError
from service.api.intake.body import shutdown_as_error
from service.api.intake.members import NDJSON
from service.errors import BodyTooLarge
from service.settings import RequestSettings

_AT_ONCE = 16
_SEND_BYTES = 2**16


class LineResponse(StreamingResponse):
    """A stream of lines that is sent while the body of the request is still being read.

    Starlette's own listens for the client's departure by reading the body, and would take it away.
    """

    media_type = NDJSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        del scope, receive
        await self.stream_response(send)


async def read_lines(request: Request, longest: int) -> AsyncIterator[list[bytes]]:
    """Read lines that are not empty, as many at a time as have arrived.

    Raises:
        BodyTooLarge: A line is longer than allowed.
        EngineStopped: The service ends.
    """
    begun: list[bytes] = []  # pieces of a line whose end has not come yet
    size = 0
    arriving = request.stream()
    while True:
        with shutdown_as_error():
            chunk = await anext(arriving, None)
        if chunk is None:
            break
        first, *others = chunk.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > longest:
            raise BodyTooLarge(f"a line has more than {longest} bytes")
        if not others:
            continue
        lines = [b"".join(begun), *others[:-1]]
        begun, size = [others[-1]], len(others[-1])
        if any(len(line) > longest for line in lines):
            raise BodyTooLarge(f"a line has more than {longest} bytes")
        if some := [line for line in lines if line.strip()]:
            yield some
    if (line := b"".join(begun)).strip():
        yield [line]


def answer_lines(
    request: Request,
    limits: RequestSettings,
    deal: Callable[[list[bytes]], Awaitable[bytes]],
    refuse: Callable[[VultusError], bytes],
) -> LineResponse:
    """Answer the lines of a request as they are dealt with.

    Args:
        request: Whose body they are.
        limits: What a request may ask for.
        deal: Makes the answer's lines of some of them.
        refuse: Makes the line of each that cannot be dealt with, and the last where the body cannot be read further.
    """

    async def answers() -> AsyncIterator[bytes]:
        try:
            async for group in in_groups(read_lines(request, limits.max_bytes), _AT_ONCE, limits.max_bytes):
                try:
                    yield await deal(group)
                except VultusError as error:  # such as a gallery that was erased: no line behind it is read
                    yield refuse(error) * len(group)
                    return
        except VultusError as error:
            yield refuse(error)
        except ClientDisconnect:
            return  # nobody is there to read an answer; what was dealt with stays

    return LineResponse(answers())


async def in_groups(arriving: AsyncIterator[list[bytes]], most: int, most_bytes: int) -> AsyncIterator[list[bytes]]:
    """Put lines together as they are dealt with: at most so many, and so many bytes unless one alone has more.

    What has arrived is dealt with at once: whoever sends a line and waits for its answer gets it.
    """
    async for lines in arriving:
        group: list[bytes] = []
        size = 0
        for line in lines:
            if group and (len(group) == most or size + len(line) > most_bytes):
                yield group
                group, size = [], 0
            group.append(line)
            size += len(line)
        yield group


async def gathered(arriving: AsyncIterator[list[bytes]], most: int, most_bytes: int) -> AsyncIterator[list[bytes]]:
    """Put lines together until there are so many, or so many bytes: for what is cheaper done at once."""
    group: list[bytes] = []
    size = 0
    async for lines in arriving:
        for line in lines:
            group.append(line)
            size += len(line)
            if len(group) >= most or size >= most_bytes:
                yield group
                group, size = [], 0
    if group:
        yield group


def in_pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Put short lines together, so that each piece is worth sending."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _SEND_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)
