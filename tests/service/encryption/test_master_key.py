"""The master key comes from one of three sources, is 32 random bytes, and is never shown."""

import base64
import secrets
import stat
import sys
from pathlib import Path

import pytest

from service.encryption.master_key import make_master_key_file, parse_master_key, read_master_key_file
from service.encryption.source import MasterKeySource
from service.errors import DataKeysUnfit, MasterKeyUnfit
from service.settings import EncryptionSettings, SettingsInvalid, load_settings

KEY = secrets.token_bytes(32)


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper(),
        f" {KEY.hex()}\r\n",
        base64.b64encode(KEY).decode(),
        f"{base64.b64encode(KEY).decode()}\n",
    ],
)
def test_a_key_is_read_in_both_forms_and_with_white_space_around_it(text: str) -> None:
    assert parse_master_key(text.encode(), "it").id == parse_master_key(KEY.hex().encode(), "it").id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        KEY.hex()[:-1],
        KEY.hex() + "0",
        f"{KEY.hex()[:32]}\n{KEY.hex()[32:]}",
        base64.b64encode(KEY[:31]).decode(),
        "x" * 64,
    ],
)
def test_another_length_or_form_is_refused_without_showing_the_text(text: str) -> None:
    with pytest.raises(
        MasterKeyUnfit, match=rf"32 bytes as 64 hexadecimal .* it has {len(text.strip())} characters"
    ) as caught:
        parse_master_key(text.encode(), "it")
    assert not text.strip() or text.strip() not in str(caught.value)


def test_raw_bytes_are_refused() -> None:
    with pytest.raises(MasterKeyUnfit, match="32 bytes as 64 hexadecimal"):
        parse_master_key(bytes(range(128, 160)), "it")


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"abcd" * 8])
def test_a_key_that_is_not_random_is_refused(key: bytes) -> None:
    with pytest.raises(MasterKeyUnfit, match="not a random master key"):
        parse_master_key(key.hex().encode(), "it")


def test_a_made_file_is_private_and_an_existing_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "master.key"
    make_master_key_file(file)
    content = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    make_master_key_file(file)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["master.key"]
    assert read_master_key_file(file).id == parse_master_key(content, "it").id


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyUnfit, match=r"master\.key cannot be read: No such file"):
        read_master_key_file(tmp_path / "master.key")
    with pytest.raises(MasterKeyUnfit, match="cannot be read: Is a directory"):
        read_master_key_file(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(MasterKeyUnfit, match="cannot be written"):
        make_master_key_file(tmp_path / "file" / "master.key")


def test_a_command_prints_the_key() -> None:
    key = MasterKeySource(command=f"{sys.executable} -c \"print('{KEY.hex()}')\"").read()
    assert key.id == MasterKeySource(text=KEY.hex()).read().id


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/no/such/program", "cannot be run: No such file"),
        ("'", "malformed"),
        (f"{sys.executable} -c \"print('secret'); raise SystemExit(3)\"", "failed with status 3"),
        (f"{sys.executable} -c \"print('secret')\"", "what the command of the master key printed is not a master key"),
    ],
)
def test_a_command_that_fails_is_a_sentence_without_what_it_printed(command: str, reason: str) -> None:
    with pytest.raises(MasterKeyUnfit, match=reason) as caught:
        MasterKeySource(command=command).read()
    assert "secret" not in str(caught.value)


def test_a_wrapped_key_opens_only_where_it_belongs() -> None:
    key, other = parse_master_key(KEY.hex().encode(), "it"), parse_master_key(secrets.token_hex(32).encode(), "it")
    data_key = secrets.token_bytes(32)
    wrapped = key.wrap(data_key, b"subject/1")
    assert len(wrapped) == 60
    assert key.unwrap(wrapped, b"subject/1") == data_key
    for master_key, content, context in (
        (key, wrapped, b"subject/2"),
        (other, wrapped, b"subject/1"),
        (key, wrapped[:-1], b"subject/1"),
        (key, wrapped[:5], b"subject/1"),
        (key, bytes([wrapped[0] ^ 1]) + wrapped[1:], b"subject/1"),
    ):
        with pytest.raises(DataKeysUnfit, match="altered or is damaged"):
            master_key.unwrap(content, context)


def test_representations_do_not_contain_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    text = KEY.hex()
    source = MasterKeySource(text=text)
    monkeypatch.setenv("VULTUS_ENCRYPTION__MASTER_KEY", text)
    for shown in (repr(source), repr(source.read()), repr(load_settings()), str(load_settings().model_dump_json())):
        assert text not in shown
    assert len(source.read().id) == 16


def test_two_sources_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_ENCRYPTION__MASTER_KEY", KEY.hex())
    monkeypatch.setenv("VULTUS_ENCRYPTION__MASTER_KEY_FILE", "/keys/master.key")
    with pytest.raises(SettingsInvalid, match="set only one of") as caught:
        load_settings()
    assert KEY.hex() not in str(caught.value)
    assert EncryptionSettings().master_key is None
