"""A graph on the disk that was cut off, altered, or is of another contract is found and built anew."""

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
    store_templates(galleries, "staff", [(f"s{n}", template(own)) for n, pair in enumerate(VECTORS) for own in pair])
    galleries.wait_idle()
    (snapshot,) = galleries.directory.glob("*.graph")
    return snapshot


def right(galleries: Galleries) -> bool:
    found = identify(galleries, ["staff"], VECTORS[:, 0], 1)
    return [own[0].subject for own in found] == [f"s{n}" for n in range(len(VECTORS))]


def flip(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 4
        path.write_bytes(content)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "last byte gone": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "bit of the header": flip(0.0001),
    "bit of the keys": flip(0.1),
    "bit of the graph": flip(0.5),
    "bit of the digest": flip(0.9999),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_snapshot_is_built_anew(reopen: Open, damage: Callable[[Path], object]) -> None:
    snapshot = fill(reopen())
    whole = snapshot.read_bytes()
    reopen().close()
    damage(snapshot)
    galleries = reopen()
    assert right(galleries)  # meanwhile
    galleries.wait_idle()
    assert right(galleries)
    assert check_consistency(galleries, "staff").faults == []
    assert len(snapshot.read_bytes()) == len(whole)


def test_a_good_snapshot_is_taken_and_caught_up(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fill(reopen())
    store_templates(reopen(), "staff", [("late", template(people(1, 1, 9)[0, 0]))])
    reopen().close()
    written = snapshot.stat().st_mtime_ns

    def never(_: LiveIndex) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(LiveIndex, "_build_graph", never)
    galleries = reopen()
    galleries.wait_idle()
    assert right(galleries)
    assert identify(galleries, ["staff"], people(1, 1, 9)[0], 1)[0][0].subject == "late"
    assert check_consistency(galleries, "staff").faults == []
    assert snapshot.stat().st_mtime_ns == written


def test_a_snapshot_from_before_an_erasure_gives_nobody_back(reopen: Open, tmp_path: Path) -> None:
    """As after a power cut between the commit and the removal of the file."""
    snapshot = fill(reopen())
    old = shutil.copy(snapshot, tmp_path / "old")
    erase_subject(reopen(), "staff", "s3")
    reopen().close()
    shutil.copy(old, snapshot)
    galleries = reopen()
    galleries.wait_idle()
    everybody = {one.subject for own in identify(galleries, ["staff"], VECTORS[3], 200) for one in own}
    assert "s3" not in everybody
    assert len(everybody) > 150
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
    galleries.rebuild(live, anew=True)
    assert begun.wait(10)
    galleries.close()
    monkeypatch.undo()
    galleries = reopen()
    galleries.wait_idle()
    assert right(galleries)


def test_what_a_killed_process_left_half_written_goes_at_start(reopen: Open) -> None:
    directory = reopen().directory
    (directory / "7.graph.part").write_bytes(VECTORS.tobytes())
    (directory / "7.graph").write_bytes(VECTORS.tobytes())
    reopen()
    assert [path.name for path in directory.glob("7*")] == []


def test_a_worn_graph_is_built_anew(reopen: Open) -> None:
    galleries = reopen()
    fill(galleries)
    for number in range(60):
        erase_subject(galleries, "staff", f"s{number}")
    galleries.wait_idle()
    audit = check_consistency(galleries, "staff")
    assert (audit.template_count, audit.index, audit.faults) == (280, "hnsw", [])
    found = identify(galleries, ["staff"], VECTORS[:, 1], 3)
    assert all(int(one.subject[1:]) >= 60 for own in found for one in own)
    assert np.mean([own[0].subject == f"s{n}" for n, own in enumerate(found) if n >= 60]) == 1
