"""The audit log: a chain in which every change is found and named, written by several threads and processes."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.audit.archives import line_of
from service.audit.log import AuditLog
from service.audit.records import Actor, Event, Outcome, content_of
from service.audit.store import STORE, AuditStore
from service.errors import AuditStopped, AuditUnfit, StorageFull, StoreUnfit
from tests.conftest import ROOT

SECRET = bytes(range(32))
ACTOR = Actor("abc", "POST /v1/verify", "r1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AuditStore]:
    store = AuditStore(tmp_path, SECRET)
    yield store
    store.close()


def filled(store: AuditStore, count: int) -> AuditStore:
    store.append([content_of(Event("verify", count=number), ACTOR, number) for number in range(1, count + 1)])
    return store


def altered(directory: Path, *statements: str) -> list[str]:
    """Change the table with another program, and return the faults that are found."""
    with sqlite3.connect(directory / STORE) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    store = AuditStore(directory, SECRET)
    faults = list(store.faults())
    store.close()
    return faults


def test_an_untouched_log_has_no_fault(store: AuditStore) -> None:
    assert list(store.faults()) == []
    filled(store, 5)
    assert list(store.faults()) == []
    assert [record.number for record in store.records()] == [1, 2, 3, 4, 5]
    assert [record.number for record in store.records(2)] == [4, 5]
    assert list(store.records(0)) == []


@pytest.mark.parametrize(
    ("statements", "faults"),
    [
        (["DELETE FROM audit_records WHERE number = 4"], ["record 4 is missing"]),
        (["DELETE FROM audit_records WHERE number IN (1, 2)"], ["records 1 to 2 are missing"]),
        (["DELETE FROM audit_records WHERE number > 7"], ["records 8 to 9 are missing at the end"]),
        (["DELETE FROM audit_records"], ["records 1 to 9 are missing at the end"]),
        (["UPDATE audit_records SET content = replace(content, 'verify', 'enrol') WHERE number = 4"],
         ["record 4 was changed"]),
        (["UPDATE audit_records SET content = substr(content, 1, 20) WHERE number = 9"], ["record 9 was changed"]),
        (["UPDATE audit_records SET digest = randomblob(32) WHERE number = 4"],
         ["record 4 was changed", "record 5 was changed"]),
        (["UPDATE audit_records SET number = 100 WHERE number = 4",
          "UPDATE audit_records SET number = 4 WHERE number = 5",
          "UPDATE audit_records SET number = 5 WHERE number = 100"],
         ["record 4 was changed", "record 5 was changed", "record 6 was changed"]),
        (["INSERT INTO audit_records SELECT 10, content, digest FROM audit_records WHERE number = 9"],
         ["record 10 was changed"]),
        (["UPDATE audit_ends SET last = 7, last_digest = (SELECT digest FROM audit_records WHERE number = 7)",
          "DELETE FROM audit_records WHERE number > 7"],
         ["the ends of the log were changed, or the log was made under another server secret"]),
    ],
)  # fmt: skip
def test_what_was_done_to_the_table_is_named(
    store: AuditStore, tmp_path: Path, statements: list[str], faults: list[str]
) -> None:
    filled(store, 9).close()
    assert altered(tmp_path, *statements) == faults


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_changed_bit_of_an_archive_is_found(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    directory = tmp_path_factory.mktemp("audit")
    store = filled(AuditStore(directory, SECRET), 6)
    store.archive(2)
    (path,) = directory.glob("*.ndjson")
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert list(store.faults())
    store.close()


def test_archives_continue_the_chain(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 9)
    store.archive(6)
    filled(store, 3)
    store.archive(2)
    assert [path.name for path in sorted(tmp_path.glob("*.ndjson"))] == [
        "audit-000000000001-000000000003.ndjson",
        "audit-000000000004-000000000010.ndjson",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert list(store.faults()) == []
    assert [record.number for record in store.records()] == list(range(1, 13))
    assert [record.number for record in store.records(4)] == [9, 10, 11, 12]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 40), before=st.none() | st.integers(1, 50))
def test_a_page_has_the_newest_records_before_a_number_from_table_and_files(
    tmp_path_factory: pytest.TempPathFactory, count: int, before: int | None
) -> None:
    directory = tmp_path_factory.mktemp("audit")
    store = AuditStore(directory, SECRET)
    for kept in (20, 12, 4):
        filled(store, 10)
        store.archive(kept if kept < 20 else 7)
    assert len(list(directory.glob("*.ndjson"))) == 3
    everything = [record for record in store.records() if before is None or record.number < before]
    assert store.page(count, before) == everything[::-1][:count]
    store.close()


def test_a_page_reads_only_its_own_part_of_a_file(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 5000)
    store.archive(10)
    (path,) = tmp_path.glob("*.ndjson")
    content = path.read_bytes()
    middle = content.index(b'{"number":4000,')
    path.write_bytes(b"x" * (middle // 16) + content[middle // 16 :])  # damage, far before the page
    assert [record.number for record in store.page(3)] == [5000, 4999, 4998]
    assert [record.number for record in store.page(2, 4002)] == [4001, 4000]
    with pytest.raises(AuditUnfit, match="does not have all records from 95 to 99"):
        store.page(5, 100)
    path.write_bytes(content[: middle + 20])
    with pytest.raises(AuditUnfit, match="is not a record of the audit log"):
        store.page(2, 4002)


def test_what_was_done_to_archives_is_named(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 9)
    store.archive(5)
    store.archive(2)
    first, second = sorted(tmp_path.glob("*.ndjson"))
    head, *lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join([head, lines[0], lines[2], lines[1], lines[3]]))
    assert list(store.faults())[:2] == ["record 2 is missing", "record 2 is repeated, or stands after record 3"]
    first.write_text("".join([head, *lines[:2]]))
    assert list(store.faults()) == ["records 3 to 4 are missing"]
    first.write_text("".join([head, *lines]) + lines[3][:50])
    cut = f"line 6 of {first.name} is not a record of the audit log; it was changed or cut off"
    assert list(store.faults()) == [cut]
    first.write_text("".join([head, lines[0].replace("{", '{"number":1,', 1), *lines[1:]]))
    assert list(store.faults()) == [cut.replace("line 6", "line 2")]
    for altered_head in ("", head.replace("1", "2", 1), "{}\n", lines[0]):
        first.write_text("".join([altered_head, *lines]))
        assert list(store.faults()) == [f"line 1 of {first.name} was changed, or the file was renamed"]
    first.write_text("".join([head, *lines]))
    renamed = first.rename(first.with_name("audit-000000000002-000000000004.ndjson"))
    assert list(store.faults()) == [f"line 1 of {renamed.name} was changed, or the file was renamed"]
    renamed.unlink()  # the oldest file may be taken away as a whole
    assert list(store.faults()) == []
    second.unlink()
    assert list(store.faults()) == []


def test_the_first_record_of_the_table_is_chained_even_if_all_files_are_gone(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 9)
    store.archive(5)
    store.close()
    next(tmp_path.glob("*.ndjson")).unlink()
    change = "UPDATE audit_records SET content = replace(content, 'verify', 'enrol') WHERE number = 5"
    assert altered(tmp_path, change) == ["record 5 was changed"]


@pytest.mark.parametrize("statement", ["DELETE FROM audit_ends", "DELETE FROM audit_records", None])
def test_a_log_that_lost_its_beginning_does_not_begin_anew(tmp_path: Path, statement: str | None) -> None:
    store = filled(AuditStore(tmp_path, SECRET), 9)
    store.archive(5)
    store.close()
    (archive,) = tmp_path.glob("*.ndjson")
    before = archive.read_bytes()
    if statement is None:
        (tmp_path / STORE).unlink()
    else:
        with sqlite3.connect(tmp_path / STORE) as connection:
            connection.execute(statement)
        connection.close()
    if statement == "DELETE FROM audit_records":
        assert altered(tmp_path) == ["records 5 to 9 are missing at the end"]
    else:
        with pytest.raises(AuditUnfit, match="the beginning of the audit log is missing"):
            AuditStore(tmp_path, SECRET)
    assert archive.read_bytes() == before


def test_the_log_can_be_checked_while_it_is_written(store: AuditStore) -> None:
    log = AuditLog(store, max_records=50)
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            log.write([Event("verify")], ACTOR)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(15):
        assert list(store.faults()) == []
        numbers = [record.number for record in store.records()]
        assert numbers == list(range(1, len(numbers) + 1))
    ends.set()
    for writer in writers:
        writer.join()
    log.close()


def test_a_check_without_records_writes_to_the_disk(store: AuditStore, tmp_path: Path) -> None:
    store.append(["{}"], durable=False)
    log = tmp_path / f"{STORE}-wal"
    before = log.read_bytes()
    store.append([])
    assert log.read_bytes() != before
    assert list(store.faults()) == []


def test_a_file_that_could_not_be_written_leaves_nothing(store: AuditStore, tmp_path: Path) -> None:
    log = AuditLog(store, max_records=10)
    with pytest.MonkeyPatch.context() as full:
        full.setattr("service.audit.archives.sync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
        for _ in range(20):
            log.write([Event("verify")], ACTOR)
        assert not list(tmp_path.glob("audit-*"))
    (tmp_path / "audit-000000000001-000000000004.ndjson.part").touch()
    for _ in range(5):
        log.write([Event("verify")], ACTOR)
    log.close()
    assert [path.suffix for path in tmp_path.glob("audit-*")] == [".ndjson"]
    assert list(store.faults()) == []


def test_other_files_in_the_directory_are_left_alone(store: AuditStore, tmp_path: Path) -> None:
    for name in ("audit-old.ndjson", "audit-2026.ndjson", "audit-1-2.ndjson"):
        (tmp_path / name).write_text("mine")
    filled(store, 9)
    store.archive(2)
    assert list(store.faults()) == []
    assert (tmp_path / "audit-2026.ndjson").read_text() == "mine"


def test_a_file_of_records_that_are_still_in_the_table_is_ignored(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 9)
    store.archive(5)
    (path,) = tmp_path.glob("*.ndjson")
    left = path.with_name("audit-000000000005-000000000007.ndjson")  # as of a process that was killed before its commit
    left.write_text("".join(line_of(record) + "\n" for record in list(store.records())[4:7]))
    assert list(store.faults()) == []
    assert len(list(store.records())) == 9
    store.archive(1)
    assert not left.exists()
    assert list(store.faults()) == []


def test_another_server_secret_does_not_verify(store: AuditStore, tmp_path: Path) -> None:
    filled(store, 2).close()
    other = AuditStore(tmp_path, bytes(32))
    assert len(list(other.faults())) == 3
    with pytest.raises(AuditUnfit, match="audit verify"):
        other.append(["{}"])
    other.close()


def test_a_file_that_is_no_audit_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / STORE).write_bytes(b"x" * 5000)
    with pytest.raises(StoreUnfit, match="is not the audit log"):
        AuditStore(tmp_path, SECRET)


def test_records_of_many_threads_share_commits_and_form_one_chain(store: AuditStore) -> None:
    log = AuditLog(store)
    commits: list[int] = []
    append = store.append

    def counted(contents: Any, durable: bool = True) -> int:
        commits.append(len(contents))
        time.sleep(0.002)  # as a slow disk
        return append(contents, durable)

    store.append = counted  # type: ignore[method-assign]

    def work() -> None:
        for _ in range(50):
            log.write([Event("verify")], ACTOR)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sum(commits) == 400
    assert len(commits) < 300
    assert list(store.faults()) == []


def test_several_processes_append_to_one_chain(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.audit.store import AuditStore\n"
        "store = AuditStore(Path(sys.argv[1]), bytes(range(32)))\n"
        "for number in range(50): store.append(['{}'])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0] * 3
    store = AuditStore(tmp_path, SECRET)
    assert list(store.faults()) == []
    assert len(list(store.records())) == 150
    store.close()


def test_a_killed_process_loses_no_acknowledged_record(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.audit.store import AuditStore\n"
        "store = AuditStore(Path(sys.argv[1]), bytes(range(32)))\n"
        "number = 0\n"
        "while True:\n"
        "    if store.append(['{\"count\":%d}' % number]) > 60: store.archive(30)\n"
        "    number += 1\n"
        "    print(number, flush=True)\n"
    )
    acknowledged = 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 40 + 17 * round_:
                break
        process.kill()
        acknowledged += int((line + "".join(process.stdout)).split()[-1])
        process.stdout.close()
        process.wait()
        store = AuditStore(tmp_path, SECRET)
        assert list(store.faults()) == []
        assert len(list(store.records())) >= acknowledged
        acknowledged = len(list(store.records()))
        store.close()


def test_what_cannot_be_recorded_is_refused_until_it_can(store: AuditStore, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(store)
    append = store.append
    store.append = _full  # type: ignore[method-assign,assignment]
    for _ in range(2):
        with pytest.raises(AuditStopped, match="the disk is full"):
            log.write([Event("verify")], ACTOR)
    assert log.is_stopped
    assert caplog.text.count("cannot be written") == 1
    store.append = append  # type: ignore[method-assign]
    log.write((), ACTOR)
    assert not log.is_stopped
    log.close()
    assert list(store.records()) == []


def test_with_best_effort_it_is_done_nevertheless(store: AuditStore) -> None:
    log = AuditLog(store, required=False)
    store.append = _full  # type: ignore[method-assign,assignment]
    log.write([Event("verify")], ACTOR)
    assert not log.is_stopped
    log.close()


def test_comparisons_are_on_the_disk_within_a_second_and_changes_at_once(
    store: AuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.audit.log._SYNC_S", 0.05)
    commits: list[tuple[int, bool]] = []
    append = store.append

    def noted(contents: Any, durable: bool = True) -> int:
        commits.append((len(contents), durable))
        return append(contents, durable)

    store.append = noted  # type: ignore[method-assign]
    log = AuditLog(store)
    log.write([Event("verify")], ACTOR)
    time.sleep(0.2)
    log.write([Event("enrol")], ACTOR)
    log.write([Event("identify")], ACTOR)
    log.close()
    assert commits == [(1, False), (0, True), (1, True), (1, False), (0, True)]


def test_the_older_half_is_archived(store: AuditStore, tmp_path: Path) -> None:
    log = AuditLog(store, max_records=10)
    for _ in range(25):
        log.write([Event("verify")], ACTOR)
    log.close()
    assert len(list(tmp_path.glob("*.ndjson"))) == 3
    assert list(store.faults()) == []
    assert len(list(store.records())) == 25


def test_a_record_has_no_member_without_a_value() -> None:
    content = content_of(
        Event("identify", ["staff"], outcomes=[Outcome("candidates", 0.123456, "aa"), Outcome("unknown")]),
        ACTOR,
        1.23456,
    )
    assert json.loads(content) == {
        "action": "identify",
        "galleries": ["staff"],
        "key": "abc",
        "outcomes": [{"decision": "candidates", "similarity": 0.123, "subject": "aa"}, {"decision": "unknown"}],
        "request_id": "r1",
        "route": "POST /v1/verify",
        "time": 1.235,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        store = AuditStore(small, SECRET)
        with pytest.raises(StorageFull):
            while True:
                store.append(["x" * 1000] * 20)
        count = len(list(store.records()))
        (small / "audit.sqlite-wal").stat()
        assert list(store.faults()) == []
        assert len(list(store.records())) == count
        store.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def _full(_contents: Any, _durable: bool = True) -> int:
    raise StorageFull("the disk is full; nothing was changed")
