"""`vultus` as it is typed: in a process of its own, or in this one where a process proves nothing more."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.cli.main import main
from tests.service.test_end_to_end import COMMAND


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def vultus(*arguments: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **more)


def vultus_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run the entry point in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vultus", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, *capsys.readouterr())
