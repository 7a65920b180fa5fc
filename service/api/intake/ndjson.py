"""NDJSON bodies of any length, read and answered line by line in bounded memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import AsyncContentStream
from starlette.types import Receive, Scope, Send

from models.deadline import Deadline
from models.errors import RequestCancelled, VultusError
from service.api.expectation import expects_continue
from service.api.intake.body import arriving_pieces, shutdown_as_error
from service.api.intake.members import NDJSON
from service.api.workers import ReceiveAhead
from service.errors import BodyTooLarge
from service.settings import RequestSettings

_GROUP_LINES = 16
_SEND_BYTES = 2**16  # minimum size of a piece that is sent


class LineResponse(StreamingResponse):
    """A stream of lines that is sent while the body of the request is still being received.

    `StreamingResponse` itself reads from the request to notice a disconnect, and would consume its body.
    """

    media_type = NDJSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del receive
        if expects_continue(Headers(scope=scope)):
            self.body_iterator = await _begun(self.body_iterator)
        await self.stream_response(send)


async def _begun(lines: AsyncContentStream) -> AsyncIterator[Any]:
    """Wait for the first line before the response starts, because the client sends no body before it receives 100."""
    iterator = aiter(lines)
    first = await anext(iterator, None)

    async def all_lines() -> AsyncIterator[Any]:
        if first is not None:
            yield first
        async for line in iterator:
            yield line

    return all_lines()


async def read_lines(request: Request, max_line_bytes: int) -> AsyncIterator[list[bytes]]:
    """Yield the lines of a body that are not empty, in groups as they arrive.

    Args:
        request: The request.
        max_line_bytes: Maximum size of a line in bytes.

    Raises:
        MediaTypeUnsupported: The body is compressed.
        BodyIncomplete: The server delivered less than the client declared.
        BodyTooLarge: A line is longer than allowed.
        EngineStopped: The service is shutting down.
        ClientDisconnect: The client disconnected.
    """
    partial: list[bytes] = []  # pieces of a line whose end has not arrived yet
    size = 0
    arriving = arriving_pieces(request)
    while True:
        with shutdown_as_error():
            chunk = await anext(arriving, None)
        if chunk is None:
            break
        first, *others = chunk.split(b"\n")
        partial.append(first)
        size += len(first)
        if size > max_line_bytes:
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
        if not others:
            continue
        lines = [b"".join(partial), *others[:-1]]
        partial, size = [others[-1]], len(others[-1])
        if any(len(line) > max_line_bytes for line in lines):
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
        if filled := [line for line in lines if line.strip()]:
            yield filled
        if size > max_line_bytes:  # after the complete lines before it
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
    if (line := b"".join(partial)).strip():
        yield [line]


def answer_lines(
    request: Request,
    limits: RequestSettings,
    limit_s: float,
    answer_group: Callable[[list[bytes], Deadline], Awaitable[bytes]],
    answer_error: Callable[[VultusError], bytes],
) -> LineResponse:
    """Answer the lines of a request in groups, while its body is still being received.

    Args:
        request: The request.
        limits: Limits of requests.
        limit_s: Time limit of each group of lines in seconds.
        answer_group: Returns the response lines of a group of lines. Its deadline is cancelled if the client
            disconnects.
        answer_error: Returns the response line of an error. If a group fails, each of its lines is answered with the
            error and the response ends. If the body cannot be read any further, the error is the last line.
    """

    async def answers() -> AsyncIterator[bytes]:
        ahead = ReceiveAhead(request.receive)
        arriving = read_lines(Request(request.scope, ahead), limits.max_bytes)
        try:
            async for group in in_groups(arriving, _GROUP_LINES, limits.max_bytes):
                deadline = Deadline(limit_s)
                try:
                    with ahead.cancelled_on_disconnect(deadline):
                        answer = await answer_group(group, deadline)
                    yield answer
                except RequestCancelled:
                    return  # no client reads the response
                except VultusError as error:  # for example, the gallery was erased; later lines are not read
                    yield answer_error(error) * len(group)
                    return
        except VultusError as error:
            yield answer_error(error)
        except ClientDisconnect:
            return  # no client reads the response; templates that are already stored remain

    return LineResponse(answers())


async def in_groups(arriving: AsyncIterator[list[bytes]], max_lines: int, max_bytes: int) -> AsyncIterator[list[bytes]]:
    """Split arriving lines into groups without waiting for more lines.

    A client that sends a line and waits for its response receives the response before it sends the next line.

    Args:
        arriving: Lines, in groups as they arrive.
        max_lines: Maximum number of lines of a group.
        max_bytes: Maximum size of a group in bytes; a single longer line is a group.
    """
    async for lines in arriving:
        group: list[bytes] = []
        size = 0
        for line in lines:
            if group and (len(group) == max_lines or size + len(line) > max_bytes):
                yield group
                group, size = [], 0
            group.append(line)
            size += len(line)
        yield group


async def in_full_groups(
    arriving: AsyncIterator[list[bytes]], max_lines: int, max_bytes: int
) -> AsyncIterator[list[bytes]]:
    """Gather lines into full groups, for work that is cheaper in large groups.

    Args:
        arriving: Lines, in groups as they arrive.
        max_lines: Number of lines of a full group.
        max_bytes: Size in bytes of a full group.
    """
    group: list[bytes] = []
    size = 0
    async for lines in arriving:
        for line in lines:
            group.append(line)
            size += len(line)
            if len(group) >= max_lines or size >= max_bytes:
                yield group
                group, size = [], 0
    if group:
        yield group


def join_short_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join short lines into pieces that are large enough to be sent efficiently."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _SEND_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)
