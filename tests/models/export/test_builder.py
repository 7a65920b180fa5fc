"""The user's own code, which may have packages with the names of this program's."""

import inspect
import sys
from pathlib import Path

import pytest

import models.export
import service
from models.errors import BuilderUnfit
from models.export.builder import Builder

NET = """
import inspect, sys
from {package}.blocks import Block
from .blocks import Block as Same

def build():
    from {package}.late import NAME, Late
    inspect.getframeinfo(sys._getframe())
    return Block, Same, NAME, Late
"""


@pytest.mark.parametrize("package", ["models", "service"])
@pytest.mark.parametrize("regular", [True, False], ids=["with __init__.py", "without __init__.py"])
def test_the_packages_of_the_user_win_while_their_code_runs(
    package: str, regular: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect.getmodule(compile("", f"{package}-unseen.py", "exec"))  # as torch does; it remembers this program's files
    folder = tmp_path / package
    folder.mkdir()
    (folder / "net.py").write_text(NET.format(package=package))
    (folder / "blocks.py").write_text("class Block: pass")
    (folder / "late.py").write_text("NAME = __name__\nclass Late: pass")
    if regular:
        (folder / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    before = {name: sys.modules[name] for name in ("models", "models.export", "service")}
    builder = Builder(f"{package}.net:build")
    loaded_late = set()
    for _ in range(2):
        block, same, late, late_class = builder()
        loaded_late.add(late_class)
        assert block is same
        assert late == f"{package}.late"
        assert {name: sys.modules[name] for name in before} == before
        assert f"{package}.net" not in sys.modules
    assert len(loaded_late) == 1, "a module of the user was loaded twice"
    assert str(tmp_path) not in sys.path
    assert sys.modules["service"] is service
    assert sys.modules["models.export"] is models.export


def test_a_package_without_the_module_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuilderUnfit, match=r"models\.absent"):
        Builder("models.absent:build")
    assert sys.modules["models.export"] is models.export
