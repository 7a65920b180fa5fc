"""Run the steps of an export in child processes, which share no memory and whose crashes do not end the export."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from models.errors import ExportProcessKilled
from models.types import Progress

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
_EXIT_TIMEOUT_S = 10.0


def run_in_subprocess(function: Callable[..., Returned], *args: Any, progress: Progress | None = None) -> Returned:
    """Call a function in a new process and return what it returns, or raise what it raises.

    Args:
        function: A module-level function. It is called with a keyword argument `progress` if `progress` is given here.
        args: Its positional arguments.
        progress: Called in this process with each report of the function.

    Raises:
        ExportProcessKilled: The system ended the process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_in_child, args=(sender, function, args, progress is not None), daemon=True)
    with ExitStack() as deferral:
        deferral.enter_context(_signals_deferred())
        process.start()
        try:
            sender.close()
            deferral.close()
            returned: Returned = _receive(receiver, progress)
            return returned
        except (KeyboardInterrupt, SystemExit):
            process.terminate()
            raise
        finally:
            process.join(_EXIT_TIMEOUT_S)  # a process that is terminated at once leaks semaphores and warns about it
            process.terminate()
            process.join()


def _receive(receiver: Connection, progress: Progress | None) -> Any:
    try:
        while True:
            kind, content = receiver.recv()
            if kind == "returned":
                return content
            if kind == "error":
                raise content
            if progress is not None:
                progress(*content)
    except EOFError as error:
        raise ExportProcessKilled(
            "the system ended a step of the export, most likely for lack of memory; nothing was written"
        ) from error


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer SIGINT, SIGTERM and SIGHUP until the block ends. One that is ignored stays so, also in the child.

    If the parent exits while a child process starts, the child prints a traceback. A child that starts in the block
    inherits the signal mask and never receives SIGINT; the parent terminates it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    arrived: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    ending: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    deferred = [number for number in ending if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, note) for number in deferred}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in arrived:
        signal.raise_signal(number)


def _run_in_child(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], reports: bool) -> None:
    keywords = {"progress": partial(_send_progress, sender)} if reports else {}
    try:
        sender.send(("returned", function(*args, **keywords)))
    except Exception as error:  # the parent raises it again, of any class
        sender.send(("error", error))


def _send_progress(sender: Connection, step: str, done: int, total: int | None) -> None:
    sender.send(("progress", (step, done, total)))


def run_here(function: Callable[Parameters, Returned], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
    """Call a function in this process.

    Replaces `run_in_subprocess` for models that are too small to justify a new process.
    """
    return function(*args, **kwargs)
