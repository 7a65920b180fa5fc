"""Run a step in a process of its own: torch, conversion and each engine never share one memory, nor one crash."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from models.errors import StepDied
from models.types import Progress

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
_FAREWELL_S = 10.0


def in_own_process(function: Callable[..., Answer], *args: Any, progress: Progress | None = None) -> Answer:
    """Call a module-level function in a fresh process and return its answer, or raise what it raised.

    Args:
        function: At module level; takes `progress` as well if it is given here.
        args: What it is called with.
        progress: Called with what the step reports.

    Raises:
        StepDied: The system ended the process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, args, progress is not None), daemon=True)
    with ExitStack() as waiting:
        waiting.enter_context(_signals_wait())
        process.start()
        try:
            sender.close()
            waiting.close()
            answer: Answer = _listen(receiver, progress)
            return answer
        except (KeyboardInterrupt, SystemExit):
            process.terminate()
            raise
        finally:
            process.join(_FAREWELL_S)  # ended at once, it would leave semaphores behind and say so
            process.terminate()
            process.join()


def _listen(receiver: Connection, progress: Progress | None) -> Any:
    try:
        while True:
            kind, content = receiver.recv()
            if kind == "answer":
                return content
            if kind == "error":
                raise content
            if progress is not None:
                progress(*content)
    except EOFError as error:
        raise StepDied(
            "a step of the export was ended by the system, most likely for lack of memory; nothing was written"
        ) from error


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Answer an interrupt or an end only after the block: a process cut off at its birth prints a traceback.

    What is started within never gets an interrupt itself (masks are inherited): its parent ends it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    arrived: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    held: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, note) for number in held}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in arrived:
        signal.raise_signal(number)


def _work(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], reports: bool) -> None:
    more = {"progress": partial(_send, sender)} if reports else {}
    try:
        sender.send(("answer", function(*args, **more)))
    except Exception as error:  # whatever it is, it is the parent's
        sender.send(("error", error))


def _send(sender: Connection, step: str, done: int, total: int | None) -> None:
    sender.send(("progress", (step, done, total)))


def call(function: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    """Call a function here: for models so small that a process of their own would cost more than they do."""
    return function(*args, **kwargs)
