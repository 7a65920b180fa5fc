"""Background upkeep of indices, and changes that interleave with it."""

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
from tests.service.gallery.conftest import DIMENSIONS, UNEXPECTED, Open, people, template, unit

VECTORS = people(200, 1)[:, 0]


def fill(galleries: Galleries, kind: Any = "hnsw", vectors: NDArray[np.float32] = VECTORS, name: str = "staff") -> None:
    create_gallery(galleries, name, kind)
    store_templates(galleries, name, [(f"s{number}", template(vector)) for number, vector in enumerate(vectors)])
    galleries.wait_idle()


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], threading.Event]]:
    """Return a function that pauses the next build of an index and returns the event that resumes it."""
    resume = threading.Event()

    def pause_next() -> threading.Event:
        begun = threading.Event()

        def slowly(*arguments: Any) -> Iterator[Block]:
            for block in read_blocks(*arguments):
                begun.set()
                resume.wait(10)
                yield block

        monkeypatch.setattr(live_module, "read_blocks", slowly)
        pause_next.begun = begun  # type: ignore[attr-defined]
        return resume

    yield pause_next
    resume.set()


def test_a_gallery_erased_while_its_index_is_built_leaves_no_file(
    galleries: Galleries, pause: Callable[[], threading.Event]
) -> None:
    fill(galleries)
    fill(galleries, name="other")
    live = galleries.live(read_gallery(galleries, "staff")[0])
    resume = pause()
    galleries.rebuild(live, ignore_snapshot=True)
    assert pause.begun.wait(10)  # type: ignore[attr-defined]
    erase_gallery(galleries, "staff")
    resume.set()
    galleries.wait_idle()
    assert [path.name for path in galleries.directory.glob("*.graph*")] == ["2.graph"]
    assert check_consistency(galleries, "other").faults == []
    assert check_erasure(galleries).faults == []
    (galleries.directory / "1.graph").write_bytes(b"orphan")
    assert check_erasure(galleries).faults == [f"the file 1.graph {UNEXPECTED}"]


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


def test_no_snapshot_is_written_for_a_gallery_erased_after_the_build(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build may finish after the gallery was erased; `save_snapshot` must not retry endlessly."""
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


def test_a_subject_erased_while_a_snapshot_is_written_is_not_in_it(
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
    assert 6 not in live.usable_snapshot_keys()
    assert 5 in live.usable_snapshot_keys()


def test_an_erasure_succeeds_on_a_full_disk_and_the_log_is_truncated_later(
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
        time.sleep(0.02)  # the upkeep thread truncates the log
    assert erase_subject(galleries, "staff", "s8").log_cut


def test_a_slow_reader_of_an_export_blocks_no_erasure(galleries: Galleries) -> None:
    fill(galleries, "flat")
    for number in range(50):
        create_subject(galleries, "staff", f"empty {number}")
    lines = export_lines(galleries, "staff")
    for _ in range(100):
        next(lines)
    assert erase_subject(galleries, "staff", "s199").log_cut
    assert sum(1 for _ in lines) == 1 + 50 + 200 + 1 - 100  # the templates were read before the erasure


def test_a_graph_that_has_grown_is_rebuilt(galleries: Galleries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "_TAIL_ROWS", 30)
    fill(galleries)
    before = galleries.live(read_gallery(galleries, "staff")[0]).current
    assert isinstance(before, GraphIndex)
    more = people(100, 1, 7)[:, 0]
    store_templates(galleries, "staff", [(f"more {number}", template(vector)) for number, vector in enumerate(more)])
    galleries.wait_idle()
    after = galleries.live(read_gallery(galleries, "staff")[0]).current
    assert isinstance(after, GraphIndex)
    assert (len(before.template_keys), len(after.template_keys)) == (200, 300)
    assert len(galleries.live(read_gallery(galleries, "staff")[0]).usable_snapshot_keys()) == 300


def test_a_request_during_a_build_is_not_lost(galleries: Galleries, pause: Callable[[], threading.Event]) -> None:
    fill(galleries)
    resume = pause()
    change_gallery(galleries, "staff", index="flat-fp16")
    assert pause.begun.wait(10)  # type: ignore[attr-defined]
    change_gallery(galleries, "staff", index="sq8")
    tasks = {id(galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]))) for _ in range(50)}
    assert len(tasks) == 1  # all requests share the one waiting task
    resume.set()
    galleries.wait_idle()
    report = check_consistency(galleries, "staff")
    assert (report.index, report.faults) == ("sq8", [])


def test_a_failure_of_upkeep_is_logged_and_fails_no_request(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(galleries, "flat")

    def fail(*_: object) -> None:
        raise RuntimeError("out of everything")

    with monkeypatch.context() as patch:
        patch.setattr(live_module.LiveIndex, "build", fail)
        galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), ignore_snapshot=True)
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


def test_a_restored_store_refuses_a_later_snapshot(reopen: Open, tmp_path: Path) -> None:
    galleries = reopen()
    fill(galleries)
    directory = galleries.directory
    galleries.close()
    backup = shutil.copy(directory / STORE, tmp_path / "backup")
    galleries = reopen()
    store_templates(
        galleries,
        "staff",
        [(f"lost {number}", template(vector)) for number, vector in enumerate(people(50, 1, 5)[:, 0])],
    )
    galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), ignore_snapshot=True)
    galleries.wait_idle()
    galleries.close()
    shutil.copy(backup, directory / STORE)
    galleries = reopen()
    new = people(50, 1, 6)[:, 0]
    store_templates(galleries, "staff", [(f"new {number}", template(vector)) for number, vector in enumerate(new)])
    galleries.wait_idle()
    assert check_consistency(galleries, "staff").faults == []
    found = identify(galleries, ["staff"], new, 1)
    assert [candidates[0].subject for candidates in found] == [f"new {n}" for n in range(50)]


@pytest.mark.parametrize("kind", ["sq8", "hnsw"])
def test_vectors_outside_the_learned_range_are_found(reopen: Open, kind: Any) -> None:
    fill(reopen(), kind)
    odd = np.eye(DIMENSIONS, dtype=np.float32)[:4]
    store_templates(reopen(), "staff", [(f"odd {number}", template(vector)) for number, vector in enumerate(odd)])
    for ignore_snapshot in (False, True):
        galleries = reopen()
        if ignore_snapshot:
            galleries.rebuild(galleries.live(read_gallery(galleries, "staff")[0]), ignore_snapshot=True)
        galleries.wait_idle()
        found = identify(galleries, ["staff"], odd, 1, floor=0.9)
        assert [candidates[0].subject for candidates in found] == [f"odd {number}" for number in range(4)]
        assert check_consistency(galleries, "staff").faults == []
        added = people(1, 1, 3)[0, 0]
        store_templates(galleries, "staff", [(f"again {ignore_snapshot}", template(added))])
    erase_subject(galleries, "staff", "odd 2")
    assert identify(galleries, ["staff"], odd[2:3], 1, floor=0.9) == [[]]
    assert check_consistency(galleries, "staff").faults == []


def test_many_probes_searched_in_parts_get_the_same_candidates(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(galleries, "flat")
    probes = unit(VECTORS + 0.1 * people(200, 1, 8)[:, 0])

    def found() -> list[list[str]]:
        answers = identify(galleries, ["staff"], probes, 7)
        return [[candidate.subject for candidate in candidates] for candidates in answers]

    at_once = found()
    monkeypatch.setattr(segmented, "_MAX_HITS", 500)
    assert found() == at_once


def test_a_search_returns_k_subjects_even_if_one_has_all_nearest_templates(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search exceeds its depth limit while it has found fewer than k subjects."""
    monkeypatch.setattr("service.gallery.ranking._MAX_DEPTH", 40)
    create_gallery(galleries, "staff")
    crowd = unit(VECTORS[:1] + 0.05 * np.random.default_rng(0).standard_normal((200, DIMENSIONS)))
    store_templates(galleries, "staff", [("crowd", template(vector)) for vector in crowd])
    store_templates(galleries, "staff", [(f"s{number}", template(vector)) for number, vector in enumerate(VECTORS[1:])])
    (found,) = identify(galleries, ["staff"], VECTORS[:1], 100)
    assert len(found) == 100
    assert found[0].subject == "crowd"


def test_an_extreme_norm_dominates_without_numerical_failure(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    vectors = people(1, 2)[0]
    store_templates(galleries, "staff", [("tiny", template(vectors[0], 1e-30))])
    store_templates(galleries, "staff", [("both", template(vectors[1], 1e6)), ("both", template(VECTORS[3], 1e-6))])
    for vector, subject in ((vectors[0], "tiny"), (vectors[1], "both")):
        (found,) = identify(galleries, ["staff"], vector[None], 1, "quality-weighted")
        assert found[0].subject == subject
        assert found[0].similarity == pytest.approx(1)
