"""The galleries are readable for their owner only, whatever the umask and the directory were before."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.gallery.administration import create_gallery
from service.gallery.consistency import check_erasure
from service.gallery.galleries import STORE, Galleries
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, people, template


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(params=[0o022, 0o000, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def fill(directory: Path) -> Galleries:
    galleries = Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS)
    create_gallery(galleries, "staff", "hnsw", keep_crops=True)
    store_templates(galleries, "staff", [(f"s{n}", template(vectors[0])) for n, vectors in enumerate(people(150, 1))])
    galleries.wait_idle()
    return galleries


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("existed", [False, True])
def test_every_file_and_the_directory_are_private(tmp_path: Path, existed: bool) -> None:
    directory = tmp_path / "galleries"
    if existed:
        directory.mkdir()
        directory.chmod(0o755)
        (directory / "lost+found").mkdir()
    galleries = fill(directory)
    try:
        with galleries.database.reading():  # a reader maps the file `-shm`
            modes = {path.name: mode(path) for path in directory.iterdir() if path.is_file()}
        assert {STORE, f"{STORE}-wal", f"{STORE}-shm", "owner.lock", "1.graph"} == set(modes)
        assert set(modes.values()) == {0o600}
        assert mode(directory) == 0o700
        check_erasure(galleries)
        assert {mode(path) for path in directory.iterdir() if path.is_file()} == {0o600}
    finally:
        galleries.close()


def test_files_that_others_could_read_are_restricted_at_start(tmp_path: Path) -> None:
    directory = tmp_path / "galleries"
    fill(directory).close()
    (directory / f"{STORE}-wal").touch()
    for path in directory.iterdir():
        path.chmod(0o644)
    directory.chmod(0o777)
    Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS).close()
    assert {mode(path) for path in directory.iterdir()} == {0o600}
    assert mode(directory) == 0o700


def test_a_directory_with_files_of_others_keeps_its_mode_and_this_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the setting names the data directory, or a directory that others use."""
    (tmp_path / "packs").mkdir(mode=0o755)
    (tmp_path / "notes.txt").write_text("of another program")
    target = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    target.write_text("")
    target.chmod(0o644)
    (tmp_path / "7.graph.part").symlink_to(target)
    tmp_path.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        Galleries(tmp_path, CONTRACT, DIMENSIONS).close()
    assert "notes.txt in it does not belong to this service, whose own files are private" in caplog.text
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / STORE) == mode(tmp_path / "owner.lock") == 0o600
    assert mode(tmp_path / "notes.txt") == mode(target) == 0o644


def test_a_mode_that_cannot_be_changed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "galleries"
    directory.mkdir()
    directory.chmod(0o750)

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path), mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    with caplog.at_level(logging.WARNING):
        Galleries(directory, CONTRACT, DIMENSIONS).close()
    assert f"other users may access {directory} (mode bits 050)" in caplog.text
    assert "operation not permitted" in caplog.text
