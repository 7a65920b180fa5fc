"""Entry point of `vultus`: the listed commands, the imported modules and the exit status."""

import subprocess
import sys

import pytest

from models import extras
from service.cli.main import COMMANDS
from service.version import VERSION
from tests.service.cli.command import vultus, vultus_here


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_help_is_the_first_sentence_of_the_help_of_the_command(name: str) -> None:
    full_help = COMMANDS[name].load(name).help
    assert full_help is not None
    assert " ".join(full_help.split()).startswith(COMMANDS[name].help)


def test_help_lists_every_command_and_imports_none() -> None:
    code = "import sys; from service.cli.main import main\ntry: main()\nfinally: print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    listing, *loaded = done.stdout.split("\nsys\n")
    assert all(f" {name} " in listing for name in COMMANDS)
    modules = set("\n".join(loaded).split())
    assert not modules & {"numpy", "cv2", "fastapi", "torch", "onnxruntime", "openvino", "pydantic"}
    assert not {name for name in modules if name.startswith("service.cli.")} - {"service.cli.main"}


def test_prints_the_version() -> None:
    assert vultus("--version").stdout == f"vultus {VERSION}\n"


def test_suggests_a_command_with_a_similar_name(capsys: pytest.CaptureFixture[str]) -> None:
    done = vultus_here(capsys, "servee")
    assert done.returncode == 2
    assert "Did you mean 'serve'?" in done.stderr


def test_a_command_names_its_missing_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    done = vultus_here(capsys, "export", "a.pth", "--out", "b")
    assert done.returncode == 2
    assert "missing packages: torch" in done.stderr
    assert "pip install 'vultus[export]'" in done.stderr
