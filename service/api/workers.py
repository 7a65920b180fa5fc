"""Running blocking work of requests in bounded numbers of worker threads, until its deadline or a disconnect."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Request
from starlette.types import Message

from models.deadline import Deadline
from models.errors import EngineStopped
from service.api.intake.body import shutdown_as_error

Answer = TypeVar("Answer")

STOPPING = "stopping"
"""State of a request: an event that is set when the server stops."""

_LAST_MESSAGE_S = 0.5  # time that a stream has for its next bytes once the service stops
_DISCONNECT = "http.disconnect"


@contextmanager
def cancelled_on_disconnect(request: Request, deadline: Deadline) -> Iterator[None]:
    """Cancel the deadline if the client disconnects during the block; the body must already be received."""

    async def watch() -> None:
        while (await request.receive())["type"] != _DISCONNECT:
            pass
        deadline.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()


class ReceiveAhead:
    """Receives one message of a request ahead, to notice that its client disconnects while a part of its body is used.

    A client that has already sent more of the body is not watched, because its next message comes first.
    """

    def __init__(self, request: Request) -> None:
        """Receive nothing yet."""
        self._receive = request.receive
        self._stopping: asyncio.Event | None = getattr(request.state, STOPPING, None)
        self._next: asyncio.Task[Message] | None = None

    async def __call__(self) -> Message:
        """Receive the next message.

        Raises:
            EngineStopped: The service is shutting down, and no message arrives any more.
        """
        receiving = self._ahead()
        try:
            await self._until_stopping(receiving)
            message = await receiving
        except BaseException:
            receiving.cancel()
            raise
        self._next = None
        return message

    async def _until_stopping(self, receiving: "asyncio.Task[Message]") -> None:
        if self._stopping is None or receiving.done():
            return
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                await asyncio.wait({receiving}, timeout=_LAST_MESSAGE_S)
        finally:
            stopping.cancel()
        if not receiving.done():
            raise EngineStopped("the service is shutting down; retry later")

    @contextmanager
    def cancelled_on_disconnect(self, deadline: Deadline) -> Iterator[None]:
        """Cancel the deadline if the next message, received during the block, is that the client disconnected."""

        def noticed(receiving: "asyncio.Task[Message]") -> None:
            if not receiving.cancelled() and not receiving.exception() and receiving.result()["type"] == _DISCONNECT:
                deadline.cancel()

        ahead = self._ahead()
        ahead.add_done_callback(noticed)
        try:
            yield
        finally:
            ahead.remove_done_callback(noticed)

    def _ahead(self) -> "asyncio.Task[Message]":
        if self._next is None:
            self._next = asyncio.ensure_future(self._receive())
        return self._next


async def in_worker(
    deadline: Deadline, workers: anyio.CapacityLimiter, work: Callable[..., Answer], arguments: Sequence[object]
) -> Answer:
    """Run blocking work in a worker thread; the deadline ends the wait for a worker, not work that has started.

    Raises:
        DeadlineExceeded: No worker was free before the deadline.
        VultusError: The work failed.
    """
    with anyio.move_on_after(deadline.remaining_s):
        return await to_thread.run_sync(work, *arguments, limiter=workers)
    raise deadline.exceeded()


async def until_deadline(deadline: Deadline, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for work until its deadline; work that has settled the deadline is waited for until it is complete.

    Raises:
        DeadlineExceeded: The deadline passed. Work that has started ends when it next checks the deadline.
        EngineStopped: The service is shutting down.
        VultusError: The work failed.
    """
    running = asyncio.ensure_future(work)
    try:
        with shutdown_as_error():
            await asyncio.wait({running}, timeout=deadline.remaining_s)
            if not running.done() and not deadline.expire():
                await asyncio.wait({running})
    except EngineStopped:
        deadline.cancel()
        running.add_done_callback(retrieve_exception)
        raise
    if running.done():
        return running.result()
    running.add_done_callback(retrieve_exception)
    raise deadline.exceeded()


def retrieve_exception(task: "asyncio.Future[Any]") -> None:
    """Mark the exception of an abandoned task as retrieved, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
