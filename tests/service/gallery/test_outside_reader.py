"""Another program that reads or locks the store for long, as a backup does, delays the truncation of the log only."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.errors import StoreBusy
from service.gallery import log_truncation
from service.gallery.administration import create_gallery, create_subject, list_subjects, read_gallery
from service.gallery.consistency import check_erasure
from service.gallery.erasure import erase_subject
from service.gallery.galleries import STORE, Galleries
from service.gallery.store import database
from service.gallery.templates import store_templates
from tests.gates import until
from tests.service.gallery.conftest import Open, people, template


@contextmanager
def other_program(galleries: Galleries, begin: str = "BEGIN") -> Iterator[Callable[[], None]]:
    """Read the store from a connection of another program; yield a function that ends its transaction."""
    connection = sqlite3.connect(galleries.directory / STORE, isolation_level=None)
    try:
        connection.execute(begin)
        connection.execute("SELECT COUNT(*) FROM templates").fetchone()
        yield connection.commit
    finally:
        connection.close()


def fill(galleries: Galleries) -> None:
    create_gallery(galleries, "staff", "hnsw")
    store_templates(galleries, "staff", [(f"s{n}", template(vectors[0])) for n, vectors in enumerate(people(150, 1))])
    galleries.wait_idle()


def log_of(galleries: Galleries) -> Path:
    return galleries.directory / f"{STORE}-wal"


@pytest.fixture(autouse=True)
def _retry_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_truncation, "_RETRY_S", 0.01)


def test_upkeep_goes_on_and_the_log_is_truncated_when_the_reader_ends(galleries: Galleries) -> None:
    fill(galleries)
    live = galleries.live(read_gallery(galleries, "staff")[0])
    with other_program(galleries) as end:
        assert not erase_subject(galleries, "staff", "s1").log_cut
        galleries.rebuild(live, ignore_snapshot=True).result(20)
        assert len(live.usable_snapshot_keys()) == 149
        assert log_of(galleries).stat().st_size > 0
        end()
        until(lambda: log_of(galleries).stat().st_size == 0)
    assert erase_subject(galleries, "staff", "s2").log_cut


def test_only_the_first_erasure_waits_for_the_reader(galleries: Galleries) -> None:
    fill(galleries)
    waits: list[str] = []
    with other_program(galleries) as end:
        galleries.database._writer.set_trace_callback(
            lambda statement: (
                waits.append(statement) if f"busy_timeout = {database._CHECKPOINT_WAIT_MS}" in statement else None
            )
        )
        assert [erase_subject(galleries, "staff", f"s{n}").log_cut for n in range(5)] == [False] * 5
        assert len(waits) == 1
        end()
        until(lambda: log_of(galleries).stat().st_size == 0)
        assert erase_subject(galleries, "staff", "s6").log_cut
        assert len(waits) == 2
        galleries.database._writer.set_trace_callback(None)


def test_a_log_that_a_stopped_service_left_is_truncated_when_the_reader_ends(reopen: Open) -> None:
    galleries = reopen()
    fill(galleries)
    with other_program(galleries) as end:
        assert not erase_subject(galleries, "staff", "s1").log_cut
        galleries = reopen()
        assert log_of(galleries).stat().st_size > 0
        end()
        until(lambda: log_of(galleries).stat().st_size == 0)


def test_the_erasure_check_reports_the_log_as_a_fault_while_a_reader_keeps_it(galleries: Galleries) -> None:
    fill(galleries)
    with other_program(galleries) as end:
        erase_subject(galleries, "staff", "s1")
        (fault,) = check_erasure(galleries).faults
        assert "another program, such as a backup, reads the store" in fault
        end()
        until(lambda: log_of(galleries).stat().st_size == 0)
    assert check_erasure(galleries).faults == []


def test_a_store_that_another_program_has_locked_is_reported_as_busy(
    galleries: Galleries,
) -> None:
    fill(galleries)
    galleries.database._writer.execute("PRAGMA busy_timeout = 1")
    with other_program(galleries, "BEGIN IMMEDIATE") as end:
        with pytest.raises(StoreBusy, match="another program has locked"):
            create_subject(galleries, "staff", "new")
        assert len(list_subjects(galleries, "staff", "", -1)) == 150
        end()
    create_subject(galleries, "staff", "new")
