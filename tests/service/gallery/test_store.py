import os
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import pytest

from service.errors import (
    GalleriesInUse,
    GalleryExists,
    GalleryUnknown,
    NameInvalid,
    StorageFull,
    StoreFailed,
    StoreUnfit,
    SubjectEmpty,
    SubjectExists,
    SubjectUnknown,
    TemplateUnknown,
)
from service.gallery.administration import (
    change_gallery,
    change_subject,
    create_gallery,
    create_subject,
    list_galleries,
    list_subjects,
    merge_subjects,
    read_gallery,
    read_subject,
)
from service.gallery.encryption import Encryption
from service.gallery.erasure import erase_gallery, erase_subject, erase_template
from service.gallery.exchange import export_lines
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import templates_of
from service.gallery.names import clean_name
from service.gallery.templates import known_sources, store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, Open, people, template

VECTORS = people(20, 2)[:, 0]


def test_a_gallery_stores_a_source_once(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    first, second = template(VECTORS[0]), template(VECTORS[1])
    (stored,) = store_templates(galleries, "staff", [("ann", first)])
    assert stored.outcome == "enrolled"
    again = store_templates(galleries, "staff", [("ann", first), ("ann", second), ("bob", second), ("bob", first)])
    assert [entry.outcome for entry in again] == ["duplicate", "enrolled", "refused", "refused"]
    assert [entry.subject for entry in again] == ["ann", "ann", "ann", "ann"]
    assert again[0].template == stored.template
    assert [subject.name for subject in list_subjects(galleries, "staff", "", 10)] == ["ann"]
    assert set(known_sources(galleries, "staff", [first.source, b"x" * 32])) == {first.source}
    create_gallery(galleries, "guests")
    assert store_templates(galleries, "guests", [("bob", first)])[0].outcome == "enrolled"


def test_galleries_and_subjects_can_be_named_and_renamed(galleries: Galleries) -> None:
    create_gallery(galleries, "staff", metadata={"site": "north"})
    create_subject(galleries, "staff", "ann", {"badge": 7})
    with pytest.raises(GalleryExists):
        create_gallery(galleries, "staff")
    with pytest.raises(SubjectExists):
        create_subject(galleries, "staff", "ann")
    create_subject(galleries, "staff", "bob")
    with pytest.raises(SubjectExists):
        change_subject(galleries, "staff", "bob", "ann")
    with pytest.raises(SubjectExists):
        merge_subjects(galleries, "staff", "bob", "bob")
    assert change_subject(galleries, "staff", "bob", "eve").metadata == {}
    with pytest.raises(SubjectUnknown):
        read_subject(galleries, "staff", "bob")
    with pytest.raises(SubjectEmpty):
        templates_of(galleries, "staff", "eve")
    with pytest.raises(TemplateUnknown):
        erase_template(galleries, "staff", "eve", 1)
    create_gallery(galleries, "guests")
    with pytest.raises(GalleryExists):
        change_gallery(galleries, "guests", "staff")
    assert change_gallery(galleries, "staff", "crew").metadata == {"site": "north"}
    with pytest.raises(GalleryUnknown):
        read_gallery(galleries, "staff")
    assert [gallery.name for gallery, _, _ in list_galleries(galleries, "", 10)] == ["crew", "guests"]
    assert [gallery.name for gallery, _, _ in list_galleries(galleries, "crew", 10)] == ["guests"]
    assert read_gallery(galleries, "crew")[1:] == (2, 0)


def test_a_merge_keeps_every_template(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    store_templates(galleries, "staff", [("ann", template(VECTORS[0])), ("anne", template(VECTORS[1]))])
    assert merge_subjects(galleries, "staff", "ann", "anne").template_count == 2
    subject, templates = read_subject(galleries, "staff", "ann")
    assert subject.template_count == len(templates) == 2
    assert {entry.contract_id for entry in templates} == {CONTRACT}


def test_a_receipt_counts_erased_records_without_names(galleries: Galleries) -> None:
    create_gallery(galleries, "staff", keep_crops=True)
    store_templates(galleries, "staff", [("ann", template(vector)) for vector in VECTORS[:3]])
    store_templates(galleries, "staff", [("bob", template(vector)) for vector in VECTORS[3:5]])
    (key, *_) = [entry.key for entry in read_subject(galleries, "staff", "ann")[1]]
    receipts = [
        erase_template(galleries, "staff", "ann", key),
        erase_subject(galleries, "staff", "ann"),
        erase_gallery(galleries, "staff"),
    ]
    assert [(receipt.what, receipt.subject_count, receipt.template_count) for receipt in receipts] == [
        ("template", 0, 1),
        ("subject", 1, 2),
        ("gallery", 1, 2),
    ]
    assert "ann" not in repr(receipts)
    with pytest.raises(SubjectUnknown):
        create_gallery(galleries, "staff")
        read_subject(galleries, "staff", "ann")


@pytest.mark.parametrize(
    "name",
    [
        "Zoë",
        "田中 太郎",
        "Ünal",
        "O'Brien",
        "शर्मा",
        "x" * 200,
        "a.b@c",
        "100%",
        "e\u0301" * 200,
        "\u03b1\u0313\u0300\u0345" * 200,
        "👩‍🚒",
        "नमस्‍ते",
    ],
)
def test_names_in_any_alphabet_are_accepted(name: str) -> None:
    assert clean_name(name, "subject") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("a/b", "slash"),
        ("a\\b", "slash"),
        ("..", "relative path segment"),
        ("a\nb", "control character"),
        ("a\x00", "control character"),
        (" a", "space"),
        ("x" * 10240, "10240 characters"),
        ("\u0958" * 101, "202 characters"),  # has no composed form
        ("\U0001d160" * 67, "201 characters"),
        ("x" + "\u0301" * 800, "801 characters"),
        ("ann\u202eexe", "text direction"),
        ("\ud800", "unpaired surrogate"),
    ],
)
def test_unsafe_names_are_refused(name: str, why: str) -> None:
    with pytest.raises(NameInvalid, match=why):
        clean_name(name, "subject")


def test_a_long_name_is_found_in_both_unicode_forms(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    create_subject(galleries, "staff", "e\u0301" * 200)
    for name in ("e\u0301" * 200, "\u00e9" * 200):
        assert read_subject(galleries, "staff", name)[0].name == "\u00e9" * 200
    with pytest.raises(SubjectUnknown):
        read_subject(galleries, "staff", "e\u0301" * 400)


def test_two_unicode_forms_of_a_name_are_the_same_name(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    create_subject(galleries, "staff", "Zoe\u0308")
    with pytest.raises(SubjectExists):
        create_subject(galleries, "staff", "Zo\u00eb")


def test_a_second_process_is_refused_with_the_owners_id(galleries: Galleries) -> None:
    with pytest.raises(GalleriesInUse, match=rf"process {os.getpid()} "):
        Galleries(galleries.directory, CONTRACT, DIMENSIONS)
    code = f"""if True:
        from pathlib import Path
        from service.errors import GalleriesInUse
        from service.gallery.galleries import Galleries
        try:
            Galleries(Path({str(galleries.directory)!r}), {CONTRACT!r}, {DIMENSIONS})
        except GalleriesInUse as error:
            print(error.code)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "galleries_in_use"


def test_a_newer_or_invalid_store_is_refused(reopen: Open, encryption: Encryption | None) -> None:
    directory = reopen().directory
    create_gallery(reopen(), "staff")
    reopen().close()
    connection = sqlite3.connect(directory / STORE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnfit, match="newer Vultus"):
        Galleries(directory, CONTRACT, DIMENSIONS, encryption=encryption)
    (directory / STORE).write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreUnfit, match="not a gallery store"):
        Galleries(directory, CONTRACT, DIMENSIONS, encryption=encryption)


def test_an_empty_store_beside_the_files_of_its_contents_is_refused(reopen: Open) -> None:
    directory = reopen().directory
    reopen().close()
    (directory / STORE).write_bytes(b"")
    reopen().close()  # as after a crash at the first start
    (directory / STORE).write_bytes(b"")
    graph = directory / "7.graph"
    graph.write_bytes(b"graph")
    with pytest.raises(StoreUnfit, match=r"store.sqlite is empty, although 7.graph beside it"):
        Galleries(directory, CONTRACT, DIMENSIONS)
    assert graph.exists()


def test_a_damaged_embedding_is_a_sentence(galleries: Galleries, encryption: Encryption | None) -> None:
    create_gallery(galleries, "staff")
    store_templates(galleries, "staff", [("ann", template(VECTORS[0])), ("ben", template(VECTORS[1]))])
    with galleries.database.writing() as connection:
        connection.execute("UPDATE templates SET embedding = substr(embedding, 1, 100) WHERE key = 1")
    reason = "an embedding has 100 bytes" if encryption is None else "an encrypted value was altered"
    with pytest.raises(StoreFailed, match=f"damaged: {reason}"):
        templates_of(galleries, "staff", "ann")
    with pytest.raises(StoreFailed, match="damaged"):
        list(export_lines(galleries, "staff"))
    assert len(templates_of(galleries, "staff", "ben").vectors) == 1


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """Uses a real file system of 2 MB, if the machine allows mounting one."""
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)]
    try:
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not allow mounting a file system")
    script = Path(__file__).with_name("full_disk.py")
    mount = f"mount -t tmpfs -o size=2m none {tmp_path} && exec {sys.executable} {script} {tmp_path}"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["storage_full", "intact", "recovered"]


def test_a_quota_refuses_and_recovers(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    store_templates(galleries, "staff", [("ann", template(VECTORS[0]))])
    writer = galleries.database._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    many = [(f"s{n}", template(vectors[0])) for n, vectors in enumerate(people(2000, 1, 4))]
    with pytest.raises(StorageFull):
        store_templates(galleries, "staff", many)
    assert read_gallery(galleries, "staff")[1:] == (1, 1)
    assert galleries.database.integrity_faults() == []
    writer.execute("PRAGMA max_page_count = 1073741823")
    store_templates(galleries, "staff", many)
    assert read_gallery(galleries, "staff")[1:] == (2001, 2001)


def test_forty_threads_read_at_the_same_time(galleries: Galleries, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = galleries.database._readers
    full = idle.full

    def full_a_moment_ago() -> bool:
        answer = full()
        time.sleep(0.01)  # other threads may return their connections meanwhile
        return answer

    monkeypatch.setattr(idle, "full", full_a_moment_ago)
    together, errors = threading.Barrier(40), []

    def read() -> None:
        try:
            with galleries.database.reading() as connection:
                together.wait(20)
                connection.execute("SELECT 1").fetchone()
                together.wait(20)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert idle.qsize() == 16


def test_a_reader_whose_connection_broke_does_not_break_later_readers(galleries: Galleries) -> None:
    with pytest.raises(sqlite3.ProgrammingError), galleries.database.reading() as connection:
        connection.close()
        connection.execute("SELECT 1")
    for _ in range(3):
        with galleries.database.reading() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_enrolment_counts_no_rows(galleries: Galleries) -> None:
    """Counting a million templates takes longer than storing one; only those of its subject are counted."""
    create_gallery(galleries, "staff")
    statements: list[str] = []
    galleries.database._writer.set_trace_callback(statements.append)
    idle = galleries.database._readers
    while not idle.empty():  # later readers are traced too
        idle.get_nowait().close()
    connect = galleries.database._connect

    def traced() -> sqlite3.Connection:
        connection = connect()
        connection.set_trace_callback(statements.append)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(galleries.database, "_connect", traced)
        known_sources(galleries, "staff", [b"x" * 32])
        store_templates(galleries, "staff", [("ann", template(VECTORS[0]))])
    galleries.database._writer.set_trace_callback(None)
    assert any("INSERT INTO templates" in statement for statement in statements)
    counts = [statement for statement in statements if "COUNT" in statement.upper()]
    assert all("WHERE subject IN (1)" in statement for statement in counts)
