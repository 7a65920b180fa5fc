import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.artefact.directories import write_text
from models.errors import StorageFailed


def test_concurrent_writers_leave_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    texts = [str(number) * 100_000 for number in range(4)]

    def write(text: str) -> None:
        for _ in range(20):
            write_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, texts))
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_an_existing_file_keeps_its_mode_and_survives_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "secret.html"
    path.write_text("old")
    path.chmod(0o600)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.html"]


def test_writes_a_name_of_the_maximum_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_text(path, "text")
    assert path.read_text() == "text"
    with pytest.raises(StorageFailed, match="File name too long"):
        write_text(tmp_path / ("x" * 256), "text")


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_standard_output_can_be_written_as_a_file() -> None:
    code = (
        "from pathlib import Path; from models.artefact.directories import write_text\n"
        "write_text(Path('/dev/stdout'), 'text')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "text"
