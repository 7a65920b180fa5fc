"""The entry point of `vultus`: what it lists, what it loads, and how it ends."""

import subprocess
import sys

import pytest

from models import extras
from service.cli.main import COMMANDS
from service.version import VERSION
from tests.service.cli.command import vultus, vultus_here


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_help_is_the_first_sentence_of_the_commands_own(name: str) -> None:
    own = COMMANDS[name].load(name).help
    assert own is not None
    assert " ".join(own.split()).startswith(COMMANDS[name].help)


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    code = "import sys; from service.cli.main import main\ntry: main()\nfinally: print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    listing, *loaded = done.stdout.split("\nsys\n")
    assert all(f" {name} " in listing for name in COMMANDS)
    modules = set("\n".join(loaded).split())
    assert not modules & {"numpy", "cv2", "fastapi", "torch", "onnxruntime", "openvino", "pydantic"}
    assert not {name for name in modules if name.startswith("service.cli.")} - {"service.cli.main"}


def test_prints_its_version() -> None:
    assert vultus("--version").stdout == f"vultus {VERSION}\n"


def test_suggests_the_command_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    done = vultus_here(capsys, "servee")
    assert done.returncode == 2
    assert "Did you mean 'serve'?" in done.stderr


def test_a_command_whose_extra_is_missing_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    done = vultus_here(capsys, "export", "a.pth", "--out", "b")
    assert done.returncode == 2
    assert "missing packages: torch" in done.stderr
    assert "pip install 'vultus[export]'" in done.stderr
