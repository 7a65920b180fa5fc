"""Snapshots on the disk: damaged and outdated ones are detected and rebuilt."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.gallery.administration import create_gallery, read_gallery
from service.gallery.consistency import check_consistency
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import identify
from service.gallery.index import live as live_module
from service.gallery.index.live import LiveIndex
from service.gallery.index.scan import read_blocks
from service.gallery.records import Block
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import Open, people, template

VECTORS = people(200, 2)


def fill(galleries: Galleries) -> Path:
    create_gallery(galleries, "staff", "hnsw")
    store_templates(
        galleries, "staff", [(f"s{n}", template(vector)) for n, pair in enumerate(VECTORS) for vector in pair]
    )
    galleries.wait_idle()
    (snapshot,) = galleries.directory.glob("*.graph")
    return snapshot


def finds_everyone(galleries: Galleries) -> bool:
    found = identify(galleries, ["staff"], VECTORS[:, 0], 1)
    return [candidates[0].subject for candidates in found] == [f"s{n}" for n in range(len(VECTORS))]


def flip(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 4
        path.write_bytes(content)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "last byte missing": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "bit of the header": flip(0.0001),
    "bit of the keys": flip(0.1),
    "bit of the graph": flip(0.5),
    "bit of the digest": flip(0.9999),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_snapshot_is_rebuilt(reopen: Open, damage: Callable[[Path], object]) -> None:
    snapshot = fill(reopen())
    intact = snapshot.read_bytes()
    reopen().close()
    damage(snapshot)
    galleries = reopen()
    assert finds_everyone(galleries)  # by scanning the store until the index is built
    galleries.wait_idle()
    assert finds_everyone(galleries)
    assert check_consistency(galleries, "staff").faults == []
    assert len(snapshot.read_bytes()) == len(intact)


def test_a_usable_snapshot_is_loaded_and_updated(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fill(reopen())
    store_templates(reopen(), "staff", [("late", template(people(1, 1, 9)[0, 0]))])
    reopen().close()
    written = snapshot.stat().st_mtime_ns

    def never(_: LiveIndex) -> None:
        raise AssertionError("the graph was rebuilt")

    monkeypatch.setattr(LiveIndex, "_build_graph", never)
    galleries = reopen()
    galleries.wait_idle()
    assert finds_everyone(galleries)
    assert identify(galleries, ["staff"], people(1, 1, 9)[0], 1)[0][0].subject == "late"
    assert check_consistency(galleries, "staff").faults == []
    assert snapshot.stat().st_mtime_ns == written


def test_a_snapshot_older_than_an_erasure_restores_no_subject(reopen: Open, tmp_path: Path) -> None:
    """Simulates a power failure between the commit of an erasure and the removal of the snapshot."""
    snapshot = fill(reopen())
    old = shutil.copy(snapshot, tmp_path / "old")
    erase_subject(reopen(), "staff", "s3")
    reopen().close()
    shutil.copy(old, snapshot)
    galleries = reopen()
    galleries.wait_idle()
    found = identify(galleries, ["staff"], VECTORS[3], 200)
    subjects = {candidate.subject for candidates in found for candidate in candidates}
    assert "s3" not in subjects
    assert len(subjects) > 150
    assert check_consistency(galleries, "staff").faults == []
    assert VECTORS[3, 0].tobytes() not in snapshot.read_bytes()
    assert snapshot.read_bytes() != Path(old).read_bytes()


def test_closing_does_not_wait_for_a_graph(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    galleries = reopen()
    fill(galleries)
    begun = threading.Event()

    def slowly(*arguments: Any) -> Iterator[Block]:
        for block in read_blocks(*arguments):
            begun.set()
            assert galleries._closing.wait(10)
            yield block

    monkeypatch.setattr(live_module, "read_blocks", slowly)
    live = galleries.live(read_gallery(galleries, "staff")[0])
    monkeypatch.setattr(live, "_sample", lambda: VECTORS[:, 0])
    galleries.rebuild(live, ignore_snapshot=True)
    assert begun.wait(10)
    galleries.close()
    monkeypatch.undo()
    galleries = reopen()
    galleries.wait_idle()
    assert finds_everyone(galleries)


def test_partial_and_orphaned_snapshots_are_removed_at_start(reopen: Open) -> None:
    directory = reopen().directory
    (directory / "7.graph.part").write_bytes(VECTORS.tobytes())
    (directory / "7.graph").write_bytes(VECTORS.tobytes())
    reopen()
    assert [path.name for path in directory.glob("7*")] == []


def test_a_graph_with_many_changes_is_rebuilt(reopen: Open) -> None:
    galleries = reopen()
    fill(galleries)
    for number in range(60):
        erase_subject(galleries, "staff", f"s{number}")
    galleries.wait_idle()
    report = check_consistency(galleries, "staff")
    assert (report.template_count, report.index, report.faults) == (280, "hnsw", [])
    found = identify(galleries, ["staff"], VECTORS[:, 1], 3)
    assert all(int(candidate.subject[1:]) >= 60 for candidates in found for candidate in candidates)
    assert np.mean([candidates[0].subject == f"s{n}" for n, candidates in enumerate(found) if n >= 60]) == 1
