"""A stream of windows without asyncio: each window that is on its way has a thread."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from service.client.errors import NoAnswer
from service.client.windows import Window, Windows

Entry = TypeVar("Entry")
Item = TypeVar("Item")


def stream_in_threads(
    entries: Iterable[Entry],
    line_of: Callable[[Entry], bytes],
    send: Callable[[Sequence[bytes], Callable[[float], object]], list[Item]],
    at_once: int,
) -> Generator[tuple[Entry, Item], None, None]:
    """Send a stream in windows, and yield its entries with their answers in order.

    The entries are read in the thread of the caller, so an entry that is late delays the answers before it.

    Args:
        entries: What is streamed.
        line_of: Returns the line of an entry.
        send: Sends the lines of a window and returns their answers; waits with the function that it is given.
        at_once: Maximum number of windows on their way.

    Yields:
        Each entry with its answer.

    Raises:
        ClientError: A window was not answered; the answers before it were yielded.
    """
    windows: Windows[Entry] = Windows()
    waiting: deque[tuple[Window[Entry], Future[list[Item]]]] = deque()
    stopped = threading.Event()
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="vultus-client")

    def wait(seconds: float) -> None:
        if stopped.wait(seconds):
            raise NoAnswer("the stream was stopped")

    def submit(complete: Iterable[Window[Entry]]) -> None:
        waiting.extend((window, threads.submit(send, window.lines, wait)) for window in complete)

    def answered() -> Iterator[tuple[Entry, Item]]:
        window, answers = waiting.popleft()
        yield from zip(window.entries, answers.result(), strict=True)

    try:
        for entry in entries:
            idle = all(answers.done() for _, answers in waiting)
            submit(windows.add(entry, line_of(entry), idle))
            while waiting and (waiting[0][1].done() or len(waiting) > at_once):
                yield from answered()
        submit(windows.rest())
        while waiting:
            yield from answered()
    finally:  # also if the caller stops early
        stopped.set()
        threads.shutdown(cancel_futures=True)
