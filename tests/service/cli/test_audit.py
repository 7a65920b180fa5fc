"""`vultus audit`, and what other commands record."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from service.audit.store import STORE
from service.settings import load_settings
from tests.service.cli.command import vultus_here

pytestmark = pytest.mark.usefixtures("data_dir")


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = vultus_here(capsys, "audit", "tail", "-n", "1000", "--json").stdout.splitlines()
    return [json.loads(line)["record"] for line in lines]


def test_commands_are_recorded(capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path) -> None:
    people = tmp_path / "people" / "planted-name"
    people.mkdir(parents=True)
    (people / "one.png").write_bytes((photos / "astronaut.png").read_bytes())
    assert vultus_here(capsys, "enrol", people.parent, "--gallery", "staff").returncode == 0
    assert vultus_here(capsys, "identify", people / "one.png", "--gallery", "staff").returncode == 0
    assert vultus_here(capsys, "gallery", "export", "staff", "--out", tmp_path / "staff.ndjson").returncode == 0
    assert vultus_here(capsys, "gallery", "import", "copy", tmp_path / "staff.ndjson").returncode == 0
    assert vultus_here(capsys, "gallery", "erase", "staff", "planted-name", "--yes").returncode == 0
    assert vultus_here(capsys, "gallery", "erase", "copy", "--yes").returncode == 0
    made = json.loads(vultus_here(capsys, "keys", "create", "door", "--scope", "verify", "--json").stdout)
    assert vultus_here(capsys, "keys", "revoke", "door").returncode == 0
    found = records(capsys)
    assert [(record["action"], record["route"]) for record in found] == [
        ("enrol", "vultus enrol"),
        ("identify", "vultus identify"),
        ("export", "vultus gallery export"),
        ("import", "vultus gallery import"),
        ("erase_subject", "vultus gallery erase"),
        ("erase_gallery", "vultus gallery erase"),
        ("create_key", "vultus keys create"),
        ("revoke_key", "vultus keys revoke"),
    ]
    assert {record["key"] for record in found} == {"command line"}
    assert found[0]["subjects"] == found[4]["subjects"] == [found[1]["outcomes"][0]["subject"]]
    assert found[1]["outcomes"][0]["similarity"] == 1.0
    assert found[7]["changed_key"] == made["id"]
    assert "planted" not in json.dumps(found)
    assert vultus_here(capsys, "audit", "verify").stdout.startswith("8 records form one chain")
    shown = vultus_here(capsys, "audit", "tail").stdout
    assert f"create_key {made['id']}" in shown  # not folded in 80 columns
    assert f"identify {found[1]['outcomes'][0]['decision']} 1.000" in shown


def test_a_changed_record_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        vultus_here(capsys, "keys", "create", name, "--scope", "verify")
    exported = vultus_here(capsys, "audit", "export", "--out", tmp_path / "audit.ndjson")
    assert exported.returncode == 0
    assert [json.loads(line)["number"] for line in (tmp_path / "audit.ndjson").read_text().splitlines()] == [1, 2, 3]
    with sqlite3.connect(load_settings().security_dir / STORE) as connection:
        connection.execute("UPDATE audit_records SET content = replace(content, 'create', 'revoke') WHERE number = 2")
    connection.close()
    verified = vultus_here(capsys, "audit", "verify")
    assert (verified.returncode, verified.stdout) == (1, "record 2 was changed\n")


def test_an_export_that_cannot_be_written_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done = vultus_here(capsys, "audit", "export", "--out", tmp_path / "missing" / "audit.ndjson")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_no_log_is_kept_if_it_is_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_AUDIT__LOG", "off")
    assert vultus_here(capsys, "keys", "create", "a", "--scope", "verify").returncode == 0
    assert not (load_settings().security_dir / STORE).exists()
