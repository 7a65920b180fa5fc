"""Running blocking work of requests in bounded numbers of worker threads, until its deadline or a disconnect."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Request

from models.deadline import Deadline
from models.errors import EngineStopped
from service.api.intake.body import shutdown_as_error

Answer = TypeVar("Answer")


@contextmanager
def cancelled_on_disconnect(request: Request, deadline: Deadline) -> Iterator[None]:
    """Cancel the deadline if the client disconnects during the block; the body must already be received."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        deadline.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()


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
