"""NDJSON bodies of any length, read and answered line by line in bounded memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from models.deadline import Deadline
from models.errors import EngineStopped, RequestCancelled, VultusError
from service.api.admission import BodyAccount, BodyBudget
from service.api.intake.body import arriving_pieces, shutdown_as_error
from service.api.intake.members import NDJSON
from service.api.request_state import TRACE
from service.api.workers import ReceiveAhead, retrieve_exception
from service.errors import BodyTooLarge, BodyTooSlow, LinesMissing
from service.settings import RequestSettings

_GROUP_LINES = 16
_GATHER_S = 2.0
_SEND_BYTES = 2**16  # minimum size of a piece that is sent


class LineResponse(StreamingResponse):
    """A stream of lines that is sent while the body of the request is still being received.

    `StreamingResponse` itself reads from the request to notice a disconnect, and would consume its body.
    """

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[bytes], account: BodyAccount, status_code: int = 200) -> None:
        """Send lines, and close the account of the body at their end."""
        super().__init__(lines, status_code)
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        try:
            await self.stream_response(send)
        finally:
            self._account.close()


async def read_lines(
    request: Request, max_line_bytes: int, limit_s: float, account: BodyAccount, may_pause: bool = False
) -> AsyncIterator[list[bytes]]:
    """Yield the lines of a body that are not empty, in groups as they arrive.

    The bytes of the lines are taken from the memory budget; whoever has used lines returns theirs.

    Args:
        request: The request.
        max_line_bytes: Maximum size of a line in bytes.
        limit_s: Time within which each line must be complete, in seconds after the one before it. A blank line is
            none.
        account: Account of the body in the memory budget.
        may_pause: Whether the client may wait between lines as long as it likes, once the first has arrived.

    Raises:
        MediaTypeUnsupported: The body is compressed.
        BodyIncomplete: The server delivered less than the client declared.
        BodyTooLarge: A line is longer than allowed.
        BodyTooSlow: A line is not complete within the time limit.
        Overloaded: A line does not fit into the memory budget.
        EngineStopped: The service is shutting down.
        ClientDisconnect: The client disconnected.
    """
    partial: list[bytes] = []  # pieces of a line whose end has not arrived yet
    size = 0
    begun = False
    waiting: Deadline | None = Deadline(limit_s)
    arriving = arriving_pieces(request)
    while True:
        try:
            with shutdown_as_error():
                async with asyncio.timeout(waiting.remaining_s if waiting else None):
                    chunk = await anext(arriving, None)
        except TimeoutError as error:
            raise BodyTooSlow("a line did not arrive within the time limit") from error
        if chunk is None:
            break
        account.take(len(chunk))
        first, *others = chunk.split(b"\n")
        partial.append(first)
        size += len(first)
        if size > max_line_bytes:
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
        if not others:
            waiting = waiting or Deadline(limit_s)
            continue
        lines = [b"".join(partial), *others[:-1]]
        partial, size = [others[-1]], len(others[-1])
        if any(len(line) > max_line_bytes for line in lines):
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
        filled = [line for line in lines if line.strip()]
        account.give_back(sum(map(len, lines)) - sum(map(len, filled)) + len(lines))  # blank lines and line ends
        if filled:
            begun = True
            yield filled
        if filled or (may_pause and begun):
            waiting = None if may_pause and not size else Deadline(limit_s)
        if size > max_line_bytes:  # after the complete lines before it
            raise BodyTooLarge(f"a line has more than {max_line_bytes} bytes")
    if (line := b"".join(partial)).strip():
        yield [line]


async def answer_lines(
    request: Request,
    limits: RequestSettings,
    limit_s: float,
    bodies: BodyBudget,
    answer_group: Callable[[list[bytes], Deadline], Awaitable[bytes]],
    answer_failed: Callable[[VultusError, list[bytes]], Awaitable[bytes]],
) -> LineResponse:
    """Answer the lines of a request in groups, while its body is still being received.

    The response starts when the first line has arrived, so a body without lines has an error as its response. If a
    group fails, each of its lines is answered with the error, and the next group follows. Only what ends the body
    ends the response, with one line more: a line that is too long or too slow, or the end of the service.

    Args:
        request: The request.
        limits: Limits of requests.
        limit_s: Time limit of each group of lines, and of the arrival of a line, in seconds.
        bodies: Budget of the bytes that request bodies hold in memory.
        answer_group: Returns the response lines of a group of lines. Its deadline is cancelled if the client
            disconnects.
        answer_failed: Returns the response lines of lines that failed with an error; without lines, one line.

    Raises:
        LinesMissing: The body has no lines.
        BodyTooLarge: The first line is longer than allowed.
        BodyTooSlow: The first line did not arrive within the time limit.
        Overloaded: The first line does not fit into the memory budget.
        EngineStopped: The service is shutting down.
        ClientDisconnect: The client disconnected before the first line.
    """
    account = BodyAccount(bodies, limits.streams_bytes)
    ahead = ReceiveAhead(request)
    arriving = read_lines(Request(request.scope, ahead), limits.max_bytes, limit_s, account, may_pause=True)
    groups = in_groups(arriving, _GROUP_LINES, limits.max_bytes)
    try:
        first: list[bytes] | None = await anext(groups, None)
        if first is None:
            raise LinesMissing("the body has no lines; send one JSON object in each line")
    except BaseException:
        account.close()
        raise

    async def answer(group: list[bytes]) -> bytes:
        deadline = Deadline(limit_s, observer=request.scope["state"].get(TRACE))
        try:
            with ahead.cancelled_on_disconnect(deadline):
                return await answer_group(group, deadline)
        except (RequestCancelled, EngineStopped):
            raise
        except VultusError as error:
            return await answer_failed(error, group)
        finally:
            account.give_back(sum(map(len, group)))

    async def answers() -> AsyncIterator[bytes]:
        group: list[bytes] | None = first
        try:
            while group is not None:
                yield await answer(group)
                group = await anext(groups, None)
        except (RequestCancelled, ClientDisconnect):
            return  # no client reads the response; templates that are already stored remain
        except VultusError as error:
            yield await answer_failed(error, [])

    return LineResponse(answers(), account)


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
    arriving: AsyncIterator[list[bytes]], max_lines: int, max_bytes: int, limit_s: float = _GATHER_S
) -> AsyncGenerator[list[bytes]]:
    """Gather lines into full groups, for work that is cheaper in large groups.

    Args:
        arriving: Lines, in groups as they arrive.
        max_lines: Number of lines of a full group.
        max_bytes: Size in bytes of a full group.
        limit_s: Time after the first line of a group, in seconds, after which it is used even if it is not full, so
            that a slow client does not occupy the memory.

    Raises:
        EngineStopped: The service is shutting down.
    """
    group: list[bytes] = []
    size = 0
    gathering: Deadline | None = None
    receiving: asyncio.Future[list[bytes] | None] = asyncio.ensure_future(anext(arriving, None))
    try:
        while True:
            with shutdown_as_error():
                await asyncio.wait({receiving}, timeout=gathering.remaining_s if gathering else None)
            if not receiving.done():
                yield group
                group, size, gathering = [], 0, None
                continue
            if (lines := receiving.result()) is None:
                break
            receiving = asyncio.ensure_future(anext(arriving, None))
            for line in lines:
                group.append(line)
                size += len(line)
                gathering = gathering or Deadline(limit_s)
                if len(group) >= max_lines or size >= max_bytes:
                    yield group
                    group, size, gathering = [], 0, None
    finally:
        receiving.add_done_callback(retrieve_exception)
        receiving.cancel()
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
