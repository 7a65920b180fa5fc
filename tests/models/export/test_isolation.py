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


def test_an_answer_and_an_error_come_back() -> None:
    assert run_in_subprocess(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run_in_subprocess(divmod, 7, 0)


def test_a_process_that_the_system_ends_is_an_error() -> None:
    with pytest.raises(ExportProcessKilled):
        run_in_subprocess(fall)


# Not in pytest's own process: after engines have run there, the kernel finds no room for a signal's frame on the stack
# that pytest's fault handler sets aside, and ends it.
_SIGNALLED = """
import multiprocessing.util, os, signal, sys
from multiprocessing import resource_tracker
from contextlib import suppress
from models.export.isolation import run_in_subprocess

number, born = int(sys.argv[1]), []
bear = multiprocessing.util.spawnv_passfds

def bear_and_signal(*arguments):
    born.append(bear(*arguments))
    signal.raise_signal(number)
    return born[-1]

resource_tracker.ensure_running()  # else it is born first, and lives as long as this process
multiprocessing.util.spawnv_passfds = bear_and_signal
signal.signal(number, lambda *_: sys.exit(143))
try:
    run_in_subprocess(divmod, 7, 2)
finally:
    for process in born:
        with suppress(ChildProcessError):  # it was waited for, as it should be
            os.waitpid(process, 0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_between_birth_and_first_words_is_answered_after_them(number: signal.Signals) -> None:
    """There a process that loses its parent prints a traceback: it is born, but was told nothing yet."""
    command = [sys.executable, "-c", _SIGNALLED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (143, "")
