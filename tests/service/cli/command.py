"""Helpers that run `vultus` in a subprocess, or in this process where a subprocess would prove nothing more."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.cli.main import main
from tests.service.test_end_to_end import COMMAND


class Done(NamedTuple):
    """Exit status and output of a finished command."""

    returncode: int
    stdout: str
    stderr: str


def vultus(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command in a subprocess."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)


def vultus_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run a command in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vultus", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, *capsys.readouterr())
