"""`POST /v1/backup`: for admins, into the configured directory, one at a time."""

import json
from pathlib import Path

import pytest

from models.serving.models import Models
from service.backup.directory import readable, writable
from service.gallery.administration import create_gallery
from service.gallery.galleries import Galleries
from service.settings import BackupSettings, Settings
from tests.client import guarded_client


@pytest.mark.parametrize("scopes", [("export", "erase", "enrol", "read"), ("metrics",)])
def test_a_key_without_the_scope_admin_makes_no_backup(
    fake_models: Models, galleries: Galleries, tmp_path: Path, scopes: tuple[str, ...]
) -> None:
    with guarded_client(fake_models, galleries, tmp_path / "security", _settings(tmp_path)) as guarded:
        key = guarded.key(*scopes)  # type: ignore[arg-type]
        assert guarded.client.post("/v1/backup", headers=key).json()["code"] == "scope_missing"
    assert not (tmp_path / "backups").exists()


def test_a_backup_is_made_in_the_configured_directory(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    create_gallery(galleries, "staff")
    with guarded_client(fake_models, galleries, tmp_path / "security", _settings(tmp_path, keep=2)) as guarded:
        key = guarded.key("admin")
        made = [guarded.client.post("/v1/backup", headers=key) for _ in range(3)]
        assert [answer.status_code for answer in made] == [201] * 3
        assert [json.loads(record.content)["action"] for record in guarded.audit.records()] == ["backup"] * 3
        assert made[0].json()["gallery_count"] == 1
        assert made[0].json()["new_bytes"] == made[0].json()["bytes"]
        assert made[2].json()["removed"] == [made[0].json()["backup"]]
        with readable(tmp_path / "backups") as directory:
            assert directory.names() == [answer.json()["backup"] for answer in made[1:]]
        with writable(tmp_path / "backups"):
            busy = guarded.client.post("/v1/backup", headers=key)
        assert (busy.status_code, busy.json()["code"]) == (409, "backup_in_progress")
        (tmp_path / "backups" / "erasures.log").write_text("damaged\n")
        damaged = guarded.client.post("/v1/backup", headers=key)
        assert (damaged.status_code, damaged.json()["code"]) == (500, "erasures_damaged")


def test_a_service_without_a_directory_for_backups_says_so(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    with guarded_client(fake_models, galleries, tmp_path / "security") as guarded:
        answer = guarded.client.post("/v1/backup", headers=guarded.key("admin"))
    assert (answer.status_code, answer.json()["code"]) == (409, "backup_unconfigured")
    assert "VULTUS_BACKUP__DIRECTORY" in answer.json()["detail"]


def _settings(directory: Path, keep: int | None = None) -> Settings:
    return Settings(data_dir=directory, backup=BackupSettings(directory=directory / "backups", keep=keep))
