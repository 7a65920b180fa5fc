import os
import signal
import subprocess
import sys

import pytest

from models.errors import ExportProcessKilled
from models.export.isolation import run_in_subprocess
from tests.conftest import ROOT


def fall() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_returns_the_result_or_raises_the_error_of_the_child() -> None:
    assert run_in_subprocess(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run_in_subprocess(divmod, 7, 0)


def test_a_process_that_the_system_ends_is_an_error() -> None:
    with pytest.raises(ExportProcessKilled):
        run_in_subprocess(fall)


def ignores_hangups() -> bool:
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_child_ignores_hangups_as_its_parent_does_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_in_subprocess(ignores_hangups)
        assert ignores_hangups()
    finally:
        signal.signal(signal.SIGHUP, before)


# This code runs in a separate process. After engines have run in pytest's process, the kernel cannot place a signal
# frame on the stack that pytest's fault handler allocates, and ends the process.
_SIGNALLED = """
import multiprocessing.util, os, signal, sys
from multiprocessing import resource_tracker
from contextlib import suppress
from models.export.isolation import run_in_subprocess

number, children = int(sys.argv[1]), []
spawn = multiprocessing.util.spawnv_passfds

def spawn_and_signal(*arguments):
    children.append(spawn(*arguments))
    signal.raise_signal(number)
    return children[-1]

resource_tracker.ensure_running()  # otherwise the tracker would be the first child, and it never ends
multiprocessing.util.spawnv_passfds = spawn_and_signal
signal.signal(number, lambda *_: sys.exit(143))
try:
    run_in_subprocess(divmod, 7, 2)
finally:
    for process in children:
        with suppress(ChildProcessError):  # the process was already waited for
            os.waitpid(process, 0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_start_of_the_child_is_deferred(number: signal.Signals) -> None:
    """A child process that loses its parent before it has received its function prints a traceback."""
    command = [sys.executable, "-c", _SIGNALLED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (143, "")
