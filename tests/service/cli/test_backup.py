"""`vultus backup` and `vultus restore`, beside a running service and without one, and `POST /v1/backup`."""

import json
import shutil
from pathlib import Path

import httpx2
import pytest

from tests.service.cli.command import vultus, vultus_here
from tests.service.test_end_to_end import client_of, own_galleries, serving


@pytest.fixture
def places(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001  # has the packs
    """A directory with `galleries` and `security`, which the commands use."""
    for group in ("galleries", "security"):
        monkeypatch.setenv(
            f"VULTUS_{'GALLERY' if group == 'galleries' else 'SECURITY'}__DIRECTORY", str(tmp_path / group)
        )
    return tmp_path


def enrol(http: httpx2.Client, photo: Path, subject: str) -> None:
    path = f"/v1/galleries/staff/subjects/{subject}/templates"
    http.post(path, files={"images": photo.read_bytes()}, data={"faces": "largest"}).raise_for_status()


def subjects(http: httpx2.Client) -> set[str]:
    listed = http.get("/v1/galleries/staff/subjects").raise_for_status().json()["subjects"]
    return {subject["subject"] for subject in listed}


def test_nobody_who_was_erased_since_comes_back_through_a_real_service(tmp_path: Path, photos: Path) -> None:
    environment = {**own_galleries(tmp_path), "VULTUS_BACKUP__DIRECTORY": str(tmp_path / "backups")}
    ann, eve = photos / "astronaut.png", photos / "group.jpg"
    with serving(environment) as server, client_of(server) as http:
        http.post("/v1/galleries", json={"gallery": "staff"}).raise_for_status()
        enrol(http, ann, "ann")
        enrol(http, eve, "eve")
        made = http.post("/v1/backup")
        assert made.status_code == 201
        assert (made.json()["subject_count"], made.json()["removed"]) == (2, [])
        beside = vultus("backup", "--json", env=environment)
        assert json.loads(beside.stdout)["new_bytes"] <= 65536 * 4, beside.stderr
        http.delete("/v1/galleries/staff/subjects/eve").raise_for_status()
        refused = vultus("restore", tmp_path / "backups", env=environment)
        assert refused.returncode == 2
        assert "has data" in refused.stderr
        assert vultus("backup", "--keep", "1", env=environment).returncode == 0
    (tmp_path / "galleries").rename(tmp_path / "old")
    shutil.rmtree(tmp_path / "security")
    restored = vultus("restore", tmp_path / "backups", "--erasures", tmp_path / "old" / "erasures.log", env=environment)
    assert restored.returncode == 0, restored.stderr
    assert "Traceback" not in restored.stderr
    with serving(environment) as server, client_of(server) as http:
        assert subjects(http) == {"ann"}
        again = vultus("restore", tmp_path / "backups", env=environment)
        assert again.returncode == 2
        found = http.post("/v1/identify", data={"gallery": "staff"}, files={"images": ann.read_bytes()}).json()
        assert found["items"][0]["faces"][0]["candidates"][0]["subject"] == "ann"
        enrol(http, eve, "eve")
        assert subjects(http) == {"ann", "eve"}


def test_backups_are_made_listed_verified_and_restored(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vultus_here(capsys, "keys", "create", "door", "--scope", "read").returncode == 0
    empty = vultus_here(capsys, "backup", places / "backups")
    assert (empty.returncode, "has no galleries to back up" in empty.stderr) == (2, True)
    assert vultus_here(capsys, "gallery", "list").returncode == 0
    made = vultus_here(capsys, "backup", places / "backups")
    assert made.returncode == 0
    assert "0 galleries, 0 subjects, 0 templates" in made.stdout
    name = made.stdout.partition(":")[0].splitlines()[-1]
    (listed,) = json.loads(vultus_here(capsys, "backup", places / "backups", "--list", "--json").stdout)
    assert listed["backup"] == name
    assert name in vultus_here(capsys, "backup", places / "backups", "--list").stdout
    assert f"{name}: intact" in vultus_here(capsys, "backup", places / "backups", "--verify").stdout
    block = next((places / "backups").glob("blocks/*/*"))
    content = block.read_bytes()
    block.write_bytes(content[:-1])
    damaged = vultus_here(capsys, "backup", places / "backups", "--verify", "--backup", name)
    assert (damaged.returncode, "is damaged" in damaged.stdout) == (1, True)
    block.write_bytes(content)
    for directory in ("galleries", "security"):
        shutil.rmtree(places / directory)
    restored = vultus_here(capsys, "restore", places / "backups", "--backup", name)
    assert restored.returncode == 0, restored.stderr
    assert f"restored {name}" in restored.stdout
    assert "revoke again" in restored.stdout
    assert json.loads(vultus_here(capsys, "keys", "list", "--json").stdout)[0]["name"] == "door"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backup"], "set VULTUS_BACKUP__DIRECTORY"),
        (["backup", "missing", "--list"], "has no backup"),
        (["backup", "missing", "--verify"], "has no backup"),
        (["restore", "missing"], "has no backup"),
        (["backup", "galleries/inside"], "lies in"),
    ],
)
def test_bad_input_is_a_sentence(
    places: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(places)
    done = vultus_here(capsys, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (places / "missing").exists()
