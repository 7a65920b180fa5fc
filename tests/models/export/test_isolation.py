import multiprocessing.util
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

import pytest

from models.errors import StepDied
from models.export.isolation import in_own_process


def fall() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_answer_and_an_error_come_back() -> None:
    assert in_own_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        in_own_process(divmod, 7, 0)


def test_a_process_that_the_system_ends_is_an_error() -> None:
    with pytest.raises(StepDied):
        in_own_process(fall)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_between_birth_and_first_words_is_answered_after_them(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """There a process that loses its parent prints a traceback: it is born, but was told nothing yet."""

    def leave(*_: object) -> NoReturn:
        sys.exit(143)

    bear: Any = multiprocessing.util.spawnv_passfds
    born: list[int] = []
    before = signal.signal(number, leave)
    try:
        with monkeypatch.context() as patch, pytest.raises(SystemExit):

            def bear_and_signal(*arguments: Any) -> int:
                born.append(bear(*arguments))
                signal.raise_signal(number)
                return born[0]

            patch.setattr(multiprocessing.util, "spawnv_passfds", bear_and_signal)
            in_own_process(divmod, 7, 2)
    finally:
        signal.signal(number, before)
    with suppress(ChildProcessError):  # it was waited for, as it should be
        os.waitpid(born[0], 0)
    assert capfd.readouterr().err == ""
