"""What happens in the background, and what may come between."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import StorageFull
from service.gallery.administration import change_gallery, create_gallery, create_subject, read_gallery
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.exchange import export_lines
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import identify
from service.gallery.index import graph as graph_module
from service.gallery.index import live as live_module
from service.gallery.index import segmented
from service.gallery.index.graph import GraphIndex
from service.gallery.index.scan import read_blocks
from service.gallery.index.snapshot import write_snapshot
from service.gallery.records import Block
from service.gallery.store.database import Database
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import DIMENSIONS, Open, people, template, unit

VECTORS = people(200, 1)[:, 0]


def fill(galleries: Galleries, kind: Any = "hnsw", vectors: NDArray[np.float32] = VECTORS, name: str = "staff") -> None:
    create_gallery(galleries, name, kind)
    store_templates(galleries, name, [(f"s{number}", template(own)) for number, own in enumerate(vectors)])
    galleries.wait_idle()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], threading.Event]]:
    """Make the next build of an index wait; what is returned lets it go on."""
    go_on = threading.Event()

    def hold() -> threading.Event:
        begun = threading.Event()

        def slowly(*arguments: Any) -> Iterator[Block]:
            for block in read_blocks(*arguments):
                begun.set()
                go_on.wait(10)
                yield block

        monkeypatch.setattr(live_module, "read_blocks", slowly)
        hold.begun = begun  # type: ignore[attr-defined]
        return go_on

    yield hold
    go_on.set()


def test_a_gallery_erased_while_its_index_is_built_leaves_no_file(
    galleries: Galleries, held: Callable[[], threading.Event]
) -> None:
    fill(galleries)
    fill(galleries, name="other")
    live = galleries.live(read_gallery(galleries, "staff")[0])
    go_on = held()
    galleries.rebuild(live, anew=True)
    assert held.begun.wait(10)  # type: ignore[attr-defined]
    erase_gallery(galleries, "staff")
    go_on.set()
    galleries.wait_idle()
    assert [path.name for path in galleries.directory.glob("*.graph*")] == ["2.graph"]
    assert check_consistency(galleries, "other").faults == []
    assert check_erasure(galleries).faults == []
    (galleries.directory / "1.graph").write_bytes(b"of nobody")
    assert check_erasure(galleries).faults == ["the file 1.graph is none of the galleries'"]


def test_a_gallery_erased_while_its_snapshot_is_written_leaves_no_file(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(galleries)
    live = galleries.live(read_gallery(galleries, "staff")[0])
    live.remove_snapshot()
    write = write_snapshot

    def erase_meanwhile(*arguments: Any) -> Path:
        part = write(*arguments)
        erase_gallery(galleries, "staff")
        return part

    monkeypatch.setattr(live_module, "write_snapshot", erase_meanwhile)
    live.save_snapshot()
    assert list(galleries.directory.glob("*.graph*")) == []


def test_a_gallery_erased_when_its_index_is_ready_is_not_kept_for_ever(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build may put its index in place after the gallery went; no snapshot may be tried again and again."""
    fill(galleries)
    live = galleries.live(read_gallery(galleries, "staff")[0])
    index = live.current
    erase_gallery(galleries, "staff")
    monkeypatch.setattr(live, "_index", index)
    ended = threading.Thread(target=live.save_snapshot, daemon=True)
    ended.start()
    ended.join(10)
    assert not ended.is_alive()
    assert list(galleries.directory.glob("*.graph*")) == []


def test_whoever_is_erased_while_a_snapshot_is_written_is_not_in_it(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(galleries)
    live = galleries.live(read_gallery(galleries, "staff")[0])
    live.remove_snapshot()
    write, calls = write_snapshot, iter(range(9))

    def erase_meanwhile(*arguments: Any) -> Path:
        part = write(*arguments)
        if next(calls) == 0:
            erase_subject(galleries, "staff", "s5")
        return part

    monkeypatch.setattr(live_module, "write_snapshot", erase_meanwhile)
    galleries.rebuild(live)
    galleries.wait_idle()
    assert check_erasure(galleries).faults == []
    assert 6 not in live.snapshot_keys()
    assert 5 in live.snapshot_keys()


def test_an_erasure_stands_though_the_disk_is_full_and_its_log_is_cut_later(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(galleries, "flat")
    checkpoint, full = Database.checkpoint, threading.Event()
    full.set()

    def fails(database: Database) -> bool:
        if full.is_set():
            raise StorageFull("the disk is full; nothing was changed")
        return checkpoint(database)

    monkeypatch.setattr(Database, "checkpoint", fails)
    receipt = erase_subject(galleries, "staff", "s7")
    assert (receipt.template_count, receipt.log_cut) == (1, False)
    log = galleries.directory / f"{STORE}-wal"
    assert log.stat().st_size > 0
    full.clear()
    deadline = time.monotonic() + 10
    while log.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # another thread cuts it
    assert erase_subject(galleries, "staff", "s8").log_cut


def test_a_slow_reader_of_an_export_holds_nobody_up(galleries: Galleries) -> None:
    fill(galleries, "flat")
    for number in range(50):
        create_subject(galleries, "staff", f"empty {number}")
    lines = export_lines(galleries, "staff")
    for _ in range(100):
        next(lines)
    assert erase_subject(galleries, "staff", "s199").log_cut
    assert sum(1 for _ in lines) == 1 + 50 + 200 + 1 - 100  # the templates were read before


def test_a_graph_that_has_grown_is_built_anew(galleries: Galleries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "_TAIL_ROWS", 30)
    fill(galleries)
    before = galleries.live(read_gallery(galleries, "staff")[0]).current
    assert isinstance(before, GraphIndex)
    more = people(100, 1, 7)[:, 0]
    store_templates(galleries, "staff", [(f"more {number}", template(own)) for number, own in enumerate(more)])
    galleries.wait_idle()
    after = galleries.live(read_gallery(galleries, "staff")[0]).current
    assert isinstance(after, GraphIndex)
    assert (len(before.template_keys), len(after.template_keys)) == (200, 300)
    assert len(galleries.live(read_gallery(galleries, "staff")[0]).snapshot_keys()) == 300


def test_what_is_asked_for_during_a_build_is_not_lost(
    galleries: Galleries, held: Callable[[], threading.Event]
) -> None:
    fill(galleries)
    go_on = held()
    change_gallery(galleries, "staff", index="flat-fp16")
    assert held.begun.wait(10)  # type: ignore[attr-defined]
    change_gallery(galleries, "staff", index="sq8")
    tasks = {id(galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]))) for _ in range(50)}
    assert len(tasks) == 1  # one waits, the others are the same
    go_on.set()
    galleries.wait_idle()
    audit = check_consistency(galleries, "staff")
    assert (audit.index, audit.faults) == ("sq8", [])


def test_a_failure_of_the_background_is_logged_and_hurts_nobody(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(galleries, "flat")

    def fail(*_: object) -> None:
        raise RuntimeError("out of everything")

    with monkeypatch.context() as patch:
        patch.setattr(live_module.LiveIndex, "build", fail)
        galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), anew=True)
        galleries.wait_idle()
        assert "out of everything" in caplog.text
    live = galleries.live(read_gallery(galleries, "staff")[0])
    assert live.current is not None
    with monkeypatch.context() as patch:
        patch.setattr(live.current, "add", fail)
        assert store_templates(galleries, "staff", [("late", template(people(1, 1, 9)[0, 0]))])[0].outcome == "enrolled"
    assert identify(galleries, ["staff"], people(1, 1, 9)[0], 1)[0][0].subject == "late"
    galleries.wait_idle()
    assert check_consistency(galleries, "staff").faults == []


def test_a_store_that_was_put_back_does_not_take_a_later_snapshot(reopen: Open, tmp_path: Path) -> None:
    galleries = reopen()
    fill(galleries)
    directory = galleries.directory
    galleries.close()
    backup = shutil.copy(directory / STORE, tmp_path / "backup")
    galleries = reopen()
    store_templates(
        galleries, "staff", [(f"lost {number}", template(own)) for number, own in enumerate(people(50, 1, 5)[:, 0])]
    )
    galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), anew=True)
    galleries.wait_idle()
    galleries.close()
    shutil.copy(backup, directory / STORE)
    galleries = reopen()
    new = people(50, 1, 6)[:, 0]
    store_templates(galleries, "staff", [(f"new {number}", template(own)) for number, own in enumerate(new)])
    galleries.wait_idle()
    assert check_consistency(galleries, "staff").faults == []
    assert [own[0].subject for own in identify(galleries, ["staff"], new, 1)] == [f"new {n}" for n in range(50)]


@pytest.mark.parametrize("kind", ["sq8", "hnsw"])
def test_vectors_beyond_the_range_that_was_learned_are_found(reopen: Open, kind: Any) -> None:
    fill(reopen(), kind)
    odd = np.eye(DIMENSIONS, dtype=np.float32)[:4]
    store_templates(reopen(), "staff", [(f"odd {number}", template(own)) for number, own in enumerate(odd)])
    for anew in (False, True):
        galleries = reopen()
        if anew:
            galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), anew=True)
        galleries.wait_idle()
        found = identify(galleries, ["staff"], odd, 1, floor=0.9)
        assert [own[0].subject for own in found] == [f"odd {number}" for number in range(4)]
        assert check_consistency(galleries, "staff").faults == []
        erase = people(1, 1, 3)[0, 0]
        store_templates(galleries, "staff", [(f"again {anew}", template(erase))])
    erase_subject(galleries, "staff", "odd 2")
    assert identify(galleries, ["staff"], odd[2:3], 1, floor=0.9) == [[]]
    assert check_consistency(galleries, "staff").faults == []


def test_many_probes_are_searched_in_parts_with_the_same_answers(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(galleries, "flat")
    probes = unit(VECTORS + 0.1 * people(200, 1, 8)[:, 0])

    def found() -> list[list[str]]:
        return [[one.subject for one in own] for own in identify(galleries, ["staff"], probes, 7)]

    whole = found()
    monkeypatch.setattr(segmented, "_MOST_HITS", 500)
    assert found() == whole


def test_as_many_subjects_are_given_as_are_asked_for(galleries: Galleries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the nearest templates, however many are looked at, are those of one."""
    monkeypatch.setattr("service.gallery.ranking._DEEPEST", 40)
    create_gallery(galleries, "staff")
    crowd = unit(VECTORS[:1] + 0.05 * np.random.default_rng(0).standard_normal((200, DIMENSIONS)))
    store_templates(galleries, "staff", [("crowd", template(own)) for own in crowd])
    store_templates(galleries, "staff", [(f"s{number}", template(own)) for number, own in enumerate(VECTORS[1:])])
    (found,) = identify(galleries, ["staff"], VECTORS[:1], 100)
    assert len(found) == 100
    assert found[0].subject == "crowd"


def test_an_extreme_norm_outweighs_and_does_not_break(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    own = people(1, 2)[0]
    store_templates(galleries, "staff", [("tiny", template(own[0], 1e-30))])
    store_templates(galleries, "staff", [("both", template(own[1], 1e6)), ("both", template(VECTORS[3], 1e-6))])
    for vector, subject in ((own[0], "tiny"), (own[1], "both")):
        (found,) = identify(galleries, ["staff"], vector[None], 1, "quality-weighted")
        assert found[0].subject == subject
        assert found[0].similarity == pytest.approx(1)
