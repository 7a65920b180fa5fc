"""Fixtures of the tests of commands."""

from pathlib import Path

import pytest

from service.settings import load_settings


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate data directory with the packs of the real one."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "packs").symlink_to(load_settings().packs_dir.resolve())
    monkeypatch.setenv("VULTUS_DATA_DIR", str(directory))
    monkeypatch.setenv("COLUMNS", "160")
    return directory
