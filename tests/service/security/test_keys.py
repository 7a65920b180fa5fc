"""The store of keys and the keyring: live keys only, at once in every process."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.audit.store import AuditStore
from service.errors import (
    GalleryUnknown,
    KeyExists,
    KeyExpired,
    KeyInvalid,
    KeyRevoked,
    KeyUnknown,
    KeyWrong,
    NameInvalid,
    ScopeMissing,
    ServerSecretUnfit,
    StoreFailed,
    StoreUnfit,
)
from service.security.keys.first_start import make_admin_key
from service.security.keys.keyring import Keyring
from service.security.keys.server_secret import SECRET_FILE
from service.security.keys.store import ADMIN_KEY_FILE, STORE, Key, KeyRequest, KeyStore
from service.security.keys.tokens import new_token
from service.security.scopes import Grant
from tests.client import wrong_token_of
from tests.conftest import ROOT


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "security", clock=clock)
    yield store
    store.close()


@pytest.fixture
def keyring(keys: KeyStore, clock: Clock) -> Iterator[Keyring]:
    keyring = Keyring(keys, clock)
    yield keyring
    keyring.close()


def test_a_key_is_stored_without_its_secret(keys: KeyStore, tmp_path: Path) -> None:
    key, token = keys.create(KeyRequest("door", ["verify"], ["staff"], "50/s", 4, 3600))
    assert keys.list_all() == [key]
    assert keys.find(key.id) == key
    keys.close()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "security").iterdir())
    assert token.id.encode() in stored
    assert token.text.removeprefix(f"vultus_{token.id}_").encode() not in stored
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "security").iterdir()} == {0o600}
    assert (tmp_path / "security").stat().st_mode & 0o777 == 0o700


def test_an_open_directory_of_keys_and_audit_log_is_restricted(
    keys: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    (keys.directory / ADMIN_KEY_FILE).touch()
    AuditStore(keys.directory, keys.server_secret).close()
    (keys.directory / "audit-000000000001-000000000002.ndjson").touch()
    for path in (keys.directory, *keys.directory.iterdir()):
        path.chmod(0o755)
    KeyStore(keys.directory).close()
    assert keys.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in keys.directory.iterdir()} == {0o600}
    assert not caplog.records


def test_only_the_whole_key_is_authenticated(keys: KeyStore, keyring: Keyring) -> None:
    key, token = keys.create(KeyRequest("door", ["verify"]))
    assert keyring.authenticate(token.text) == key
    with pytest.raises(KeyWrong):
        keyring.authenticate(new_token().text)
    with pytest.raises(KeyWrong):
        keyring.authenticate(wrong_token_of(token))


def test_who_does_not_have_the_whole_key_does_not_learn_that_it_was_revoked(keys: KeyStore, keyring: Keyring) -> None:
    _, token = keys.create(KeyRequest("door", ["verify"]))
    keys.revoke("door")
    with pytest.raises(KeyWrong):
        keyring.authenticate(wrong_token_of(token))
    with pytest.raises(KeyRevoked):
        keyring.authenticate(token.text)


def test_a_key_expires(keys: KeyStore, keyring: Keyring, clock: Clock) -> None:
    _, token = keys.create(KeyRequest("door", ["verify"], expires_in_s=10))
    clock.now += 9.9
    keyring.authenticate(token.text)
    clock.now += 0.1
    with pytest.raises(KeyExpired):
        keyring.authenticate(token.text)
    with pytest.raises(KeyUnknown):
        keys.rotate("door", 0)


def test_a_change_of_another_process_is_heeded_at_once(keyring: Keyring, tmp_path: Path) -> None:
    beside = KeyStore(tmp_path / "security", clock=Clock())
    _, token = beside.create(KeyRequest("door", ["verify"]))
    keyring.authenticate(token.text)
    beside.revoke("door")
    with pytest.raises(KeyRevoked):
        keyring.authenticate(token.text)
    beside.close()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_restored_store_does_not_hide_a_revocation(
    keys: KeyStore, keyring: Keyring, tmp_path: Path, in_place: bool
) -> None:
    _, token = keys.create(KeyRequest("door", ["verify"]))
    path, copy = tmp_path / "security" / STORE, tmp_path / "copy"
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    keys.create(KeyRequest("other", ["verify"]))
    keyring.authenticate(token.text)
    if in_place:
        with sqlite3.connect(copy) as source, sqlite3.connect(path) as target:
            source.backup(target)
    else:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        copy.replace(path)
    keyring.authenticate(token.text)
    beside = KeyStore(tmp_path / "security", clock=Clock())
    beside.revoke("door")
    beside.close()
    with pytest.raises(KeyRevoked):
        keyring.authenticate(token.text)


def test_a_store_that_is_missing_lets_nobody_in(keys: KeyStore, keyring: Keyring, tmp_path: Path) -> None:
    _, token = keys.create(KeyRequest("door", ["verify"]))
    keyring.authenticate(token.text)
    (tmp_path / "security" / STORE).unlink()
    with pytest.raises(StoreFailed):
        keyring.authenticate(token.text)
    with pytest.raises(StoreUnfit, match="to begin without keys"):
        KeyStore(tmp_path / "security")


def test_a_key_that_is_rotated_twice_has_successors_of_its_lifetime(keys: KeyStore) -> None:
    for name, lifetime in (("for ever", None), ("for a day", 86400.0)):
        key, _ = keys.create(KeyRequest(name, ["verify"], expires_in_s=lifetime))
        successors = [keys.rotate(key.id, 3600)[0] for _ in range(2)]
        assert [successor.lifetime_s for successor in successors] == [lifetime] * 2
        assert successors[1].expires == (None if lifetime is None else successors[1].created + lifetime)


def test_no_key_is_stored_that_could_not_be_delivered(keys: KeyStore) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keys.create(KeyRequest("door", ["verify"]), fail)
    assert keys.list_all() == []
    key, _ = keys.create(KeyRequest("door", ["verify"]))
    with pytest.raises(ZeroDivisionError):
        keys.rotate("door", 0, fail)
    assert keys.list_all() == [key]


def test_the_admin_key_is_not_written_where_a_link_leads(keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (keys.directory / ADMIN_KEY_FILE).symlink_to(tmp_path / "elsewhere")
    make_admin_key(keys)
    assert (tmp_path / "elsewhere").read_text() == ""
    assert (keys.directory / ADMIN_KEY_FILE).read_text().startswith("vultus_")


def test_a_rotated_key_stays_valid_for_the_overlap(keys: KeyStore, keyring: Keyring, clock: Clock) -> None:
    old, old_token = keys.create(KeyRequest("door", ["verify"], ["staff"], "5/s", 2, expires_in_s=1000))
    clock.now += 500
    new, new_token = keys.rotate("door", 60)
    assert (new.name, new.grant, new.rate, new.concurrency) == (old.name, old.grant, old.rate, old.concurrency)
    assert new.expires == clock.now + 1000
    assert {keyring.authenticate(token.text).id for token in (old_token, new_token)} == {old.id, new.id}
    clock.now += 60
    keyring.authenticate(new_token.text)
    with pytest.raises(KeyExpired):
        keyring.authenticate(old_token.text)
    assert [key.id for key in keys.revoke("door")] == [new.id]


def test_an_overlap_never_outlives_the_key(keys: KeyStore) -> None:
    old, _ = keys.create(KeyRequest("door", ["verify"], expires_in_s=100))
    keys.rotate(old.id, 86400)
    assert keys.find(old.id).expires == old.expires


def test_a_name_stands_for_all_its_live_keys_when_it_is_revoked(keys: KeyStore) -> None:
    keys.create(KeyRequest("door", ["verify"]))
    keys.rotate("door", 3600)
    assert len(keys.revoke("door")) == 2
    with pytest.raises(KeyUnknown):
        keys.revoke("door")


def test_live_keys_have_different_names(keys: KeyStore) -> None:
    keys.create(KeyRequest("door", ["verify"]))
    with pytest.raises(KeyExists):
        keys.create(KeyRequest("door", ["identify"]))
    keys.revoke("door")
    keys.create(KeyRequest("door", ["identify"]))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (KeyRequest("door", []), "at least one scope"),
        (KeyRequest("door", ["admin"], ["staff"]), "cannot be bound"),
        (KeyRequest("door", ["verify"], []), "1 to 1000 galleries"),
        (KeyRequest("door", ["verify"], rate="fast"), "is not a rate"),
        (KeyRequest("door", ["verify"], concurrency=0), "must be 1 to"),
        (KeyRequest("door", ["verify"], concurrency=10**20), "must be 1 to"),
        (KeyRequest("door", ["verify"], expires_in_s=0), "in the past"),
        (KeyRequest("door", ["verify"], expires_in_s=-1), "in the past"),
        (KeyRequest("door", ["verify"], expires_in_s=float("inf")), "in the past"),
    ],
)
def test_refuses_impossible_keys(keys: KeyStore, request_: KeyRequest, message: str) -> None:
    with pytest.raises(KeyInvalid, match=message):
        keys.create(request_)
    assert keys.list_all() == []


@pytest.mark.parametrize("name", ["", " door", "a/b", "a\nb"])
def test_refuses_invalid_names(keys: KeyStore, name: str) -> None:
    with pytest.raises(NameInvalid):
        keys.create(KeyRequest(name, ["verify"]))
    with pytest.raises(NameInvalid):
        keys.create(KeyRequest("door", ["verify"], [name]))


def test_the_last_use_is_stored_and_never_goes_back(keys: KeyStore, clock: Clock) -> None:
    key, token = keys.create(KeyRequest("door", ["verify"]))
    keyring = Keyring(keys, clock)
    keyring.authenticate(token.text)
    keyring.close()
    assert keys.find(key.id).last_used == clock.now
    keys.record_uses({key.id: clock.now - 3600})  # the clock went back
    assert keys.find(key.id).last_used == clock.now


def test_a_use_that_could_not_be_stored_is_stored_later(
    keys: KeyStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = keys.create(KeyRequest("door", ["verify"]))
    keyring = Keyring(keys, clock)
    keyring.authenticate(token.text)

    def fail(_used: object) -> None:
        raise StoreFailed("no")

    with monkeypatch.context() as broken:
        broken.setattr(keys, "record_uses", fail)
        keyring._flush()
    keyring.close()
    assert keys.find(key.id).last_used == clock.now


def test_a_lost_or_foreign_server_secret_refuses_to_open_and_changes_nothing(keys: KeyStore, tmp_path: Path) -> None:
    keys.create(KeyRequest("door", ["verify"]))
    keys.close()
    directory = tmp_path / "security"
    before, secret = (directory / STORE).read_bytes(), (directory / SECRET_FILE).read_text()
    for content in (None, "", secret[:10], "ff" * 32, "ff" * 33, "é" * 64):
        if content is None:
            (directory / SECRET_FILE).unlink()
        else:
            (directory / SECRET_FILE).write_text(content)
        files = sorted(path.name for path in directory.iterdir())
        with pytest.raises(ServerSecretUnfit):
            KeyStore(directory)
        assert sorted(path.name for path in directory.iterdir()) == files
    assert (directory / STORE).read_bytes() == before
    (directory / SECRET_FILE).write_text(f"\n{secret.strip()}\r\n\n")  # as editors save it
    KeyStore(directory).close()


def test_a_server_secret_from_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "mounted"
    secret.write_text("ab" * 32)
    KeyStore(tmp_path / "security", secret).close()
    with pytest.raises(ServerSecretUnfit):
        KeyStore(tmp_path / "security")


def test_a_file_that_is_no_store_of_keys_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "security"
    directory.mkdir()
    (directory / STORE).write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreUnfit):
        KeyStore(directory)


def test_a_store_of_a_newer_version_is_refused_unchanged(keys: KeyStore, tmp_path: Path) -> None:
    keys.close()
    with sqlite3.connect(tmp_path / "security" / STORE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'keys_9999'")
    connection.close()
    with pytest.raises(StoreUnfit, match="newer Vultus"):
        KeyStore(tmp_path / "security")


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="the store of keys cannot be opened"):
        KeyStore(tmp_path / "file" / "security")


def test_many_processes_that_open_a_new_store_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.security.keys.store import *;"
        "keys = KeyStore(Path(sys.argv[1])); keys.create(KeyRequest(sys.argv[2], ['verify'])); keys.close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "security")]
    running = [subprocess.Popen([*command, f"n{number}"], cwd=ROOT) for number in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    keys = KeyStore(tmp_path / "security")
    assert {key.name for key in keys.list_all()} == {"n0", "n1", "n2", "n3"}
    keys.close()


def test_many_threads_make_and_revoke_keys(keys: KeyStore) -> None:
    def make(number: int) -> None:
        keys.create(KeyRequest(f"n{number}", ["verify"]))
        keys.revoke(f"n{number}")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.list_all()) == 8
    assert all(key.revoked for key in keys.list_all())


def test_the_first_start_makes_one_admin_key_in_a_private_file(keys: KeyStore, keyring: Keyring) -> None:
    make_admin_key(keys)
    make_admin_key(keys)
    path = keys.directory / ADMIN_KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    (key,) = keys.list_all()
    assert keyring.authenticate(path.read_text().strip()) == key
    assert key.grant == Grant(frozenset({"admin"}))
    keys.revoke("admin")
    make_admin_key(keys)  # revoking the last key must not make another one
    assert len(keys.list_all()) == 1


def test_no_admin_key_is_stored_that_could_not_be_written(keys: KeyStore) -> None:
    (keys.directory / ADMIN_KEY_FILE).mkdir()
    with pytest.raises(StoreFailed, match="admin key"):
        make_admin_key(keys)
    assert keys.list_all() == []


@pytest.mark.parametrize(
    ("galleries", "reached", "hidden"),
    [
        (None, ["staff", "anything"], []),
        (("staff",), ["staff"], ["staff2", "Staff", "staf", ""]),
        (("ten-*",), ["ten-", "ten-a"], ["ten", "tena"]),
        (("*",), ["staff"], []),
        (("e*",), ["east"], ["e\u0301st"]),  # composed, it begins with another letter
        (("\u00e9*",), ["e\u0301st", "\u00e9st"], ["est"]),
    ],
)
def test_a_grant_reaches_its_galleries_only(
    galleries: tuple[str, ...] | None, reached: list[str], hidden: list[str]
) -> None:
    grant = Grant(frozenset({"verify"}), galleries)
    assert all(map(grant.reaches, reached))
    assert not any(map(grant.reaches, hidden))
    grant.require_galleries(reached)
    for name in hidden:
        with pytest.raises(GalleryUnknown):
            grant.require_galleries([*reached, name])


def test_admin_includes_all_scopes() -> None:
    Grant(frozenset({"admin"})).require("erase")
    with pytest.raises(ScopeMissing, match="erase"):
        Grant(frozenset({"enrol", "read"})).require("erase")


def test_the_key_of_a_row_is_complete(keys: KeyStore) -> None:
    key, _ = keys.create(KeyRequest("door", ["verify", "detect"], ["b", "a", "b"], "5/s", 2, 60))
    assert isinstance(key, Key)
    assert key.described()["scopes"] == ["detect", "verify"]
    assert key.described()["galleries"] == ["b", "a"]
