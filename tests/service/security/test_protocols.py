"""Keys of the protocols of CompreFace and Amazon Rekognition."""

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import KeyInvalid, KeyMalformed, KeyWrong, StoreUnfit
from service.security.keys.keyring import Keyring
from service.security.keys.protocols import REKOGNITION_SCOPES, SERVICE_SCOPES, access_key_id
from service.security.keys.store import STORE, KeyRequest, KeyStore


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def keyring(keys: KeyStore) -> Iterator[Keyring]:
    keyring = Keyring(keys)
    yield keyring
    keyring.close()


def _compreface(name: str = "cf") -> KeyRequest:
    return KeyRequest(name, SERVICE_SCOPES["recognition"], ["staff"], protocol="compreface", service="recognition")


def _rekognition(name: str = "aws") -> KeyRequest:
    return KeyRequest(name, REKOGNITION_SCOPES, ["tenant-*"], protocol="rekognition")


def test_a_key_of_compreface_is_a_uuid_in_any_case(keys: KeyStore, keyring: Keyring) -> None:
    made, token = keys.create(_compreface())
    assert str(uuid.UUID(token.text)) == token.text
    assert keyring.authenticate_uuid(token.text) == made
    assert keyring.authenticate_uuid(token.text.upper()) == made
    assert (made.service, made.grant.galleries) == ("recognition", ("staff",))


def test_a_uuid_with_the_same_id_and_another_secret_is_wrong(keys: KeyStore, keyring: Keyring) -> None:
    _, token = keys.create(_compreface())
    other = str(uuid.UUID(token.text[:14] + str(uuid.uuid4())[14:]))
    with pytest.raises(KeyWrong):
        keyring.authenticate_uuid(other)
    with pytest.raises(KeyMalformed):
        keyring.authenticate_uuid("not-a-uuid")


def test_keys_of_one_protocol_are_unknown_to_the_others(keys: KeyStore, keyring: Keyring) -> None:
    _, native = keys.create(KeyRequest("own", ["admin"]))
    _, uuid_key = keys.create(_compreface())
    for text in (native.text, access_key_id(native.id)):
        with pytest.raises((KeyMalformed, KeyWrong)):
            keyring.authenticate_uuid(text)
    for key_id in (native.id, uuid_key.id):
        with pytest.raises(KeyWrong):
            keyring.signing_key(access_key_id(key_id))
    with pytest.raises(KeyMalformed):
        keyring.authenticate(uuid_key.text)


def test_the_secret_of_an_access_key_is_kept_encrypted_and_found_again(
    tmp_path: Path, keys: KeyStore, keyring: Keyring
) -> None:
    made, token = keys.create(_rekognition())
    assert len(token.text) == 40
    found = keyring.signing_key(access_key_id(made.id))
    assert (found.key, found.secret) == (made, token.text)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob(f"{STORE}*"))
    assert token.text.encode() not in stored


def test_a_revoked_access_key_signs_nothing(keys: KeyStore, keyring: Keyring) -> None:
    made, _ = keys.create(_rekognition())
    keys.revoke("aws")
    with pytest.raises(KeyWrong):
        keyring.signing_key(access_key_id(made.id))


def test_a_secret_that_was_moved_to_another_key_is_found_out(tmp_path: Path, keys: KeyStore) -> None:
    first, _ = keys.create(_rekognition("one"))
    second, _ = keys.create(_rekognition("two"))
    with sqlite3.connect(tmp_path / STORE) as connection:
        connection.execute(
            "UPDATE keys SET sealed_secret = (SELECT sealed_secret FROM keys WHERE id = ?) WHERE id = ?",
            (second.id, first.id),
        )
    connection.close()
    with pytest.raises(StoreUnfit, match="altered"):
        keys.secret_of(keys.find(first.id))


def test_a_rotated_key_speaks_the_same_protocol(keys: KeyStore, keyring: Keyring) -> None:
    keys.create(_compreface())
    rotated, token = keys.rotate("cf", 0)
    assert keyring.authenticate_uuid(token.text) == rotated
    assert rotated.service == "recognition"


@pytest.mark.parametrize("galleries", [None, ["staff", "guests"], ["staff*"]])
def test_a_recognition_key_has_exactly_one_gallery(keys: KeyStore, galleries: list[str] | None) -> None:
    request = KeyRequest("cf", SERVICE_SCOPES["recognition"], galleries, protocol="compreface", service="recognition")
    with pytest.raises(KeyInvalid, match="exactly one gallery"):
        keys.create(request)


def test_keys_made_before_protocols_speak_the_own_one(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    _, token = store.create(KeyRequest("old", ["verify"]))
    store.close()
    with sqlite3.connect(tmp_path / STORE) as connection:  # as the earlier version left it
        for column in ("protocol", "service", "sealed_secret"):
            connection.execute(f"ALTER TABLE keys DROP COLUMN {column}")
        connection.execute("UPDATE alembic_version SET version_num = 'keys_0001'")
    connection.close()
    store = KeyStore(tmp_path)
    keyring = Keyring(store)
    assert keyring.authenticate(token.text).protocol == "vultus"
    keyring.close()
    store.close()
