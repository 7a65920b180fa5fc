"""What the doctor finds, and what ends each finding."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from service.backup.places import places_of
from service.backup.writing import make_backup
from service.doctor.examination import examine
from service.encryption.master_key import make_master_key_file
from service.gallery.encryption import encryption_of
from service.gallery.galleries import Galleries
from service.security.keys.first_start import make_admin_key
from service.security.keys.store import KeyRequest, KeyStore
from service.settings import (
    AuditSettings,
    BackupSettings,
    EncryptionSettings,
    HttpSettings,
    SecuritySettings,
    Settings,
    load_settings,
)
from tests.service.cli.command import vultus_here


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "packs").symlink_to(load_settings().packs_dir.resolve())
    return Settings(data_dir=tmp_path)


def codes(settings: Settings) -> set[str]:
    findings = examine(settings)
    assert all(finding.what and finding.remedy and "\n" not in finding.remedy for finding in findings)
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=lambda level: level != "warning")
    return {finding.code for finding in findings}


def with_http(settings: Settings, **options: Any) -> Settings:
    return settings.model_copy(update={"http": HttpSettings(**options)})


def test_a_new_installation_has_notes_only(settings: Settings) -> None:
    assert codes(settings) == {"no_key", "no_tls", "calibration_of_others", "untuned"}
    assert all(finding.level == "note" for finding in examine(settings))


def test_keys_that_end_or_are_not_used(settings: Settings) -> None:
    now = datetime.now(UTC).timestamp()
    keys = KeyStore(settings.security_dir, clock=lambda: now - 100 * 86400)
    make_admin_key(keys)
    keys.create(KeyRequest("door", ["verify"], expires_in_s=110 * 86400))
    keys.create(KeyRequest("long", ["verify"], expires_in_s=400 * 86400))
    keys.create(KeyRequest("gone", ["verify"], expires_in_s=1))
    key, _ = keys.create(KeyRequest("used", ["verify"]))
    keys.record_uses({key.id: now})
    keys.close()
    found = {finding.code: finding.what for finding in examine(settings)}
    assert "(door)" in found["key_expires"]
    assert "admin_key_file" in found
    unused = [finding.what for finding in examine(settings) if finding.code == "key_unused"]
    assert len(unused) == 2
    assert all("(admin)" in what or "(long)" in what for what in unused)
    (settings.security_dir / "admin.key").unlink()
    assert "admin_key_file" not in codes(settings)


def test_what_cannot_be_read_is_a_finding_and_nothing_is_changed(settings: Settings) -> None:
    KeyStore(settings.security_dir).close()
    (settings.security_dir / "keys.sqlite").chmod(0o644)
    assert {"readable_by_others", "no_key"} <= codes(settings)
    secret = settings.security_dir / "server.secret"
    content = secret.read_bytes()
    secret.unlink()
    assert "server_secret_unfit" in codes(settings)
    secret.write_bytes(content)
    (settings.security_dir / "keys.sqlite").unlink()
    assert "store_unfit" in codes(settings)
    assert "no_key" not in codes(settings)


def test_open_doors(settings: Settings) -> None:
    off = settings.model_copy(update={"security": SecuritySettings(keys="off"), "audit": AuditSettings(log="off")})
    assert {"keys_off", "audit_not_required"} <= codes(off)
    assert {"trusted_hosts", "cors_origins"} <= codes(with_http(settings, trusted_hosts=("*",), cors_origins=("*",)))


@pytest.mark.parametrize(
    ("days", "expected"), [(10, {"certificate_expires"}), (300, set()), (None, {"certificate_unfit"})]
)
def test_certificates(settings: Settings, tmp_path: Path, days: int | None, expected: set[str]) -> None:
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if days is not None:
        expires = datetime.now(UTC) + timedelta(days=days)
        trustme.CA().issue_cert("localhost", not_after=expires).cert_chain_pems[0].write_to_path(str(path))
    key.touch(0o600)
    found = codes(with_http(settings, tls_certificate=path, tls_key=key))
    assert found & {"certificate_expires", "certificate_unfit", "no_tls"} == expected


def test_files_that_others_may_read(settings: Settings) -> None:
    directory = settings.galleries_dir
    directory.mkdir(mode=0o700)
    file = directory / "store.sqlite"
    file.touch(0o600)
    assert "readable_by_others" not in codes(settings)
    file.chmod(0o640)
    (found,) = (finding for finding in examine(settings) if finding.code == "readable_by_others")
    assert found.level == "warning"
    assert "store.sqlite" in found.what


def test_encryption_and_where_its_master_key_is(settings: Settings, tmp_path: Path) -> None:
    Galleries(settings.galleries_dir, "ec1-x", 8).close()
    assert "not_encrypted" in codes(settings)
    file = tmp_path / "master.key"
    make_master_key_file(file)
    settings = settings.model_copy(update={"encryption": EncryptionSettings(master_key_file=file)})
    Galleries(settings.galleries_dir, "ec1-x", 8, encryption=encryption_of(settings)).close()
    assert "not_encrypted" not in codes(settings)
    assert "master_key_on_same_disk" in codes(settings)
    assert "readable_by_others" not in codes(settings)
    file.chmod(0o644)
    assert "readable_by_others" in codes(settings)


def test_a_full_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    settings.galleries_dir.mkdir(mode=0o700)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert "disk_low" in codes(settings)


def test_backups_that_are_missing_old_or_damaged(settings: Settings, tmp_path: Path) -> None:
    galleries = Galleries(settings.galleries_dir, "ec1-x", 8)
    galleries.close()
    assert "no_backup" in codes(settings)
    directory = tmp_path / "backups"
    settings = settings.model_copy(update={"backup": BackupSettings(directory=directory)})
    assert "backup_old" in codes(settings)
    made = make_backup(places_of(settings), directory)
    assert not codes(settings) & {"no_backup", "backup_old", "backup_damaged"}
    with pytest.MonkeyPatch.context() as later:
        later.setattr("service.doctor.backups.time.time", lambda: made.manifest.created + 8 * 86400)
        assert "backup_old" in codes(settings)
    (manifest,) = (directory / "backups").iterdir()
    manifest.write_bytes(manifest.read_bytes()[:-10])
    assert {"backup_damaged", "backup_old"} <= codes(settings)


def test_a_damaged_model(settings: Settings, tmp_path: Path) -> None:
    assert codes(settings.model_copy(update={"data_dir": tmp_path / "none"})) >= {"model_unfit"}


def test_own_measurements_end_their_notes(settings: Settings) -> None:
    for directory in (settings.calibrations_dir, settings.tunings_dir):
        directory.mkdir()
        (directory / "a.json").touch()
    assert not codes(settings) & {"calibration_of_others", "untuned"}


def test_the_command_tells_monitoring_what_it_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("VULTUS_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("COLUMNS", "160")
    done = vultus_here(capsys, "doctor", "--json")
    assert done.returncode == 0
    assert {"code", "level", "what", "remedy"} == set(json.loads(done.stdout)[0])
    monkeypatch.setenv("VULTUS_SECURITY__KEYS", "off")
    done = vultus_here(capsys, "doctor")
    assert done.returncode == 1
    assert "whoever reaches the service" in done.stdout
