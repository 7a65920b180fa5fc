"""`vultus remote`, run as commands against a service in another process."""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client
from tests.service.cli.command import vultus_here
from tests.service.client.faults import CUT, answering, problem, response
from tests.service.test_end_to_end import altered, client_of, free_port, own_galleries, serving

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(own_galleries(tmp_path_factory.mktemp("served"))) as process, client_of(process):
        yield f"http://127.0.0.1:{process.port}"  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_CLIENT_URL", url)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def people(photos: Path, tmp_path: Path) -> Path:
    """Two photos of one person, and folders with photos that are refused."""
    root = tmp_path / "people"
    for name in ("ann", "bea", "cid", ".hidden"):
        (root / name).mkdir(parents=True)
    (root / "ann/1.png").write_bytes((photos / "astronaut.png").read_bytes())
    (root / "ann/2.jpg").write_bytes(altered(photos / "astronaut.png"))
    (root / "bea/group.jpg").write_bytes((photos / "group.jpg").read_bytes())
    (root / "cid/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "cid/film.jpg").touch()
    os.truncate(root / "cid/film.jpg", 2**40)  # without blocks
    return root


def test_folders_are_enrolled_with_a_report_and_a_repeated_run_skips_them(
    capsys: Output, people: Path, photos: Path, tmp_path: Path
) -> None:
    report = tmp_path / "refused.csv"
    done = vultus_here(capsys, "remote", "enrol", people, "--gallery", "staff", "--report", report)
    assert done.returncode == 1
    assert re.search(r"enrolled +│ 2", done.stdout)
    assert "2 people gave no template: bea, cid" in done.stdout
    rows = {Path(row["image"]).name: row["code"] for row in csv.DictReader(report.read_text().splitlines())}
    assert rows == {"group.jpg": "several_faces", "broken.jpg": "image_unreadable", "film.jpg": "image_too_many_bytes"}

    only_good = tmp_path / "listed.csv"
    only_good.write_text("image,subject\nann/1.png,ann\nann/2.jpg,ann\n")
    again = vultus_here(capsys, "remote", "enrol", people, "--gallery", "staff", "--csv", only_good, "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["outcomes"] == {"duplicate": 2}

    probe = tmp_path / "probe.jpg"
    probe.write_bytes(altered(photos / "astronaut.png"))
    found = vultus_here(capsys, "remote", "identify", probe, photos / "group.jpg", "--gallery", "staff")
    assert found.returncode == 0
    assert "staff/ann" in found.stdout
    assert "unknown" in found.stdout
    assert "A candidate requires a similarity of at least" in found.stdout
    unusable = [tmp_path / "none.jpg", people / "cid/broken.jpg"]
    answer = vultus_here(capsys, "remote", "identify", probe, *unusable, "--gallery", "staff", "--json")
    assert answer.returncode == 1
    first, *failed = json.loads(answer.stdout)
    assert first["faces"][0]["candidates"][0]["subject"] == "ann"
    assert [photo["code"] for photo in failed] == ["image_unreadable"] * 2


def test_photos_and_subjects_are_verified(capsys: Output, url: str, photos: Path, tmp_path: Path) -> None:
    portrait, other = photos / "astronaut.png", tmp_path / "other.jpg"
    other.write_bytes(altered(portrait))
    done = vultus_here(capsys, "remote", "verify", portrait, other)
    assert done.stdout.startswith("match: the similarity is 0.")
    assert "(operating point fmr_1e-4). Comparisons: 1. False match rate: at most 0.0001" in done.stdout
    with Client(url, trust_env=False) as client:
        client.create_gallery("guests")
        client.enrol("guests", "ann", portrait)
    answer = vultus_here(capsys, "remote", "verify", other, "--gallery", "guests", "--subject", "ann", "--json")
    assert json.loads(answer.stdout)["decision"] == "match"
    assert vultus_here(capsys, "remote", "verify", other, portrait, "--gallery", "guests").returncode == 2
    several = vultus_here(capsys, "remote", "verify", photos / "group.jpg", portrait)
    assert several.returncode == 2
    assert re.search(r"vultus: 6 faces were found .*\(several_faces, request \w+\)", several.stderr)


def test_what_is_invalid_for_all_photos_ends_in_one_line(
    capsys: Output, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.exchange._MAX_REPETITIONS", 0)
    portrait = photos / "astronaut.png"
    for arguments, reason in (
        (["identify", portrait, "--gallery", "none"], "gallery_unknown"),
        (["identify", portrait, "--gallery", "staff", "--url", "faces"], "must begin with http"),
        (["verify", portrait, portrait, "--url", f"http://127.0.0.1:{free_port()}"], "ConnectError"),
        (["verify", portrait, portrait, "--key-file", tmp_path / "none"], "No such file"),
        (["verify", portrait, tmp_path / "none.png"], "cannot be read"),
    ):
        done = vultus_here(capsys, "remote", *arguments)  # type: ignore[arg-type]
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_key_comes_from_a_file_and_is_never_shown(capsys: Output, photos: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("vultus_secret_key\n")
    portrait = photos / "astronaut.png"
    with answering(problem(401, "key_wrong")) as server:
        done = vultus_here(capsys, "remote", "verify", portrait, portrait, "--url", server.url, "--key-file", key_file)
        assert server.header(0, "Authorization") == "Bearer vultus_secret_key"
    assert done.returncode == 2
    assert "key_wrong" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_an_enrolment_whose_service_ends_reports_what_it_knows(
    capsys: Output, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.exchange._MAX_REPETITIONS", 0)
    stored = response(200, b'{"status": "enrolled", "template": 1}\n', "application/x-ndjson")
    report = tmp_path / "refused.csv"
    with answering(problem(409, "gallery_exists"), stored, CUT) as server:
        done = vultus_here(
            capsys,
            *("remote", "enrol", people, "--gallery", "staff"),
            *("--url", server.url, "--report", report, "--at-once", "1"),
        )
    assert done.returncode == 2
    assert "RemoteProtocolError" in done.stderr
    assert report.read_text().startswith("image,subject,code,reason")
