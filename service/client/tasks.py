"""A stream of windows with asyncio: each window that is on its way is a task, and so is the next entry."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from service.client.windows import Window, Windows

Entry = TypeVar("Entry")
Item = TypeVar("Item")


async def stream_in_tasks(
    entries: Iterable[Entry] | AsyncIterable[Entry],
    line_of: Callable[[Entry], bytes],
    send: Callable[[Sequence[bytes]], Awaitable[list[Item]]],
    at_once: int,
) -> AsyncGenerator[tuple[Entry, Item], None]:
    """Send a stream in windows, and yield its entries with their answers in order, as they arrive.

    Args:
        entries: What is streamed.
        line_of: Returns the line of an entry; called in a thread, because it may read a file.
        send: Sends the lines of a window and returns their answers.
        at_once: Maximum number of windows on their way.

    Yields:
        Each entry with its answer.

    Raises:
        ClientError: A window was not answered; the answers before it were yielded.
    """
    source = _asynchronous(entries)
    windows: Windows[Entry] = Windows()
    waiting: deque[tuple[Window[Entry], asyncio.Future[list[Item]]]] = deque()

    async def read() -> tuple[Entry, bytes] | None:
        async for entry in source:
            return entry, await asyncio.to_thread(line_of, entry)
        return None

    def submit(complete: Iterable[Window[Entry]]) -> None:
        waiting.extend((window, asyncio.ensure_future(send(window.lines))) for window in complete)

    reading: asyncio.Task[tuple[Entry, bytes] | None] | None = asyncio.create_task(read())
    try:
        while reading or waiting:
            awaited: list[asyncio.Future[Any]] = [waiting[0][1]] if waiting else []
            if reading and len(waiting) <= at_once:
                awaited.append(reading)
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            while waiting and waiting[0][1].done():
                window, answers = waiting.popleft()
                for pair in zip(window.entries, answers.result(), strict=True):
                    yield pair
            if not reading or not reading.done() or len(waiting) > at_once:
                continue
            if (given := reading.result()) is None:
                reading = None
                submit(windows.rest())
            else:
                submit(windows.add(*given, idle=all(answers.done() for _, answers in waiting)))
                reading = asyncio.create_task(read())
    finally:  # also if the caller stops early
        await _cancel([answers for _, answers in waiting] + ([reading] if reading else []))


async def _asynchronous(entries: Iterable[Entry] | AsyncIterable[Entry]) -> AsyncIterator[Entry]:
    if isinstance(entries, AsyncIterable):
        async for entry in entries:
            yield entry
    else:
        for entry in entries:
            yield entry


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
