"""`vultus enrol`, `identify` and `gallery`, run as commands on real photos with the real pack."""

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner, Result

from models.errors import VultusError
from service.cli.main import app
from service.gallery.administration import create_gallery
from service.startup import open_models_and_galleries
from tests.service.cli.command import vultus
from tests.service.test_end_to_end import COMMAND, altered, client_of, serving


@pytest.fixture(scope="session")
def folders(photos: Path, real_client: TestClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of the six people of the group photo, one with a corrupt file, and one for a seventh person."""
    root = tmp_path_factory.mktemp("people")
    faces = real_client.post("/v1/detect", files={"images": (photos / "group.jpg").read_bytes()}).json()["items"][0]
    with Image.open(photos / "group.jpg") as group:
        for number, face in enumerate(faces["faces"]):
            x1, y1, x2, y2 = face["box"]
            margin = 0.35 * (x2 - x1)
            person = root / f"person {number}"
            person.mkdir()
            group.crop((int(x1 - margin), int(y1 - margin), int(x2 + margin), int(y2 + margin))).save(person / "1.png")
    (root / "person 0/notes.txt").write_text("not a photo")
    (root / "person 1/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "astronaut").mkdir()
    (root / "astronaut/1.png").write_bytes((photos / "astronaut.png").read_bytes())
    return root


def run(*arguments: str | Path, status: int = 0) -> str:
    done: Result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.output


def stored(store: Path) -> int:
    """Count the templates that another process has committed."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM templates").fetchone()[0])
    return 0


def refused(*arguments: str | Path) -> VultusError:
    with pytest.raises(VultusError) as raised:
        run(*arguments)
    return raised.value


@pytest.mark.usefixtures("data_dir")
def test_folders_are_enrolled_found_exported_and_erased(folders: Path, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "refused.csv"
    out = run("enrol", folders, "--gallery", "staff", "--report", report, status=1)
    assert re.search(r"enrolled +│ 7", out)
    (line,) = csv.DictReader(report.read_text().splitlines())
    assert (line["subject"], line["code"]) == ("person 1", "image_unreadable")
    again = run("enrol", folders, "--gallery", "staff", status=1)
    assert re.search(r"enrolled +│ 0", again)
    assert re.search(r"duplicate +│ 7", again)

    probe = tmp_path / "probe.jpg"
    probe.write_bytes(altered(photos / "astronaut.png"))
    with open_models_and_galleries() as (galleries, _):
        create_gallery(galleries, "empty")
    unmatched = run("identify", probe, "--gallery", "empty")
    assert "Comparisons for each face: 0." in unmatched
    assert "up to 0% of cases" in unmatched
    loose = ["--operating-point", "fmr_1e-3"]  # two faces of the group have quality 0 and low similarities
    found = run("identify", probe, photos / "group.jpg", "--gallery", "staff", "--assign", "unique", *loose)
    assert "staff/astronaut" in found
    assert all(f"staff/person {number}" in found for number in range(6))
    assert "up to 0.7% of cases" in found
    answer = json.loads(run("identify", probe, tmp_path / "none.jpg", "--gallery", "staff", "--json", status=1))
    assert answer[0]["faces"][0]["candidates"][0]["subject"] == "astronaut"
    assert answer[1]["code"] == "image_unreadable"

    assert re.search(r"staff +│ 7 +│ 7 +│ auto", run("gallery", "list"))
    assert "median 1" in run("gallery", "stats", "staff")
    assert "7 templates" in run("gallery", "rebuild", "staff")
    exported = tmp_path / "staff.ndjson"
    run("gallery", "export", "staff", "--out", exported)
    assert "7 new templates, 0 already stored" in run("gallery", "import", "copy", exported)
    assert "0 new templates, 7 already stored" in run("gallery", "import", "copy", exported)
    assert "1 subjects, 1 templates, 0 crops" in run("gallery", "erase", "staff", "astronaut", "--yes")
    assert "unknown" in run("identify", probe, "--gallery", "staff")
    assert "7 subjects, 7 templates" in run("gallery", "erase", "copy", "--yes")
    checked = run("gallery", "verify", "--erasure")
    assert "staff: 6 templates, index flat: agrees with the store" in checked
    assert "no file contains erased data" in checked
    assert refused("gallery", "stats", "copy").code == "gallery_unknown"
    assert refused("gallery", "import", "staff", tmp_path / "none").code == "line_malformed"
    exported.write_bytes(b"".join(exported.read_bytes().splitlines(keepends=True)[:-1]))
    assert "truncated" in str(refused("gallery", "import", "staff", exported))


@pytest.mark.usefixtures("data_dir")
def test_folders_as_they_lie_on_real_disks_are_enrolled_without_the_files_of_systems(
    folders: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    with Image.open(folders / "astronaut/1.png") as photo:
        for name in (
            "ann/1.jfif",
            "ann/@eaDir/1.jfif/SYNOPHOTO_THUMB_M.jpg",
            "@eaDir/ann/x.jpg",
            "ann/.Trash-1000/2.jpg",
        ):
            (people / name).parent.mkdir(parents=True, exist_ok=True)
            photo.convert("RGB").resize((300 + len(name), 300)).save(people / name, "JPEG")
    for name in ("bea/IMG_1", "cid/Thumbs.db", "dan/scan.jpe", "eve/damaged.jpg"):
        (people / name).parent.mkdir()
    (people / "bea/IMG_1").write_bytes((folders / "person 0/1.png").read_bytes())
    (people / "cid/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (people / "dan/scan.jpe").write_bytes((folders / "person 2/1.png").read_bytes())
    (people / "eve/damaged.jpg").write_bytes(b"<html>")
    (people / "ann/._1.jfif").write_bytes(b"\0\5\26\7")
    (people / "ann/notes.txt").write_text("not a photo")
    out = run("enrol", people, "--gallery", "staff", status=1)
    assert re.search(r"enrolled +│ 3", out)
    assert "3 system folders (@eaDir, .Trash-1000), 2 system files (._1.jfif, Thumbs.db)" in out
    assert "1 file that is no photo (ann/notes.txt)" in out
    assert "eve/damaged.jpg: the bytes are HTML" in out
    assert "2 people gave no template: cid, eve" in out
    shutil.rmtree(people / "eve")
    again = run("enrol", people, "--gallery", "staff")
    assert "1 person gave no template: cid" in again, "a photo that is already enrolled counts"


@pytest.mark.usefixtures("data_dir")
def test_a_folder_that_cannot_be_read_is_not_passed_over_in_silence(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, scandir = tmp_path / "people", os.scandir
    for name in ("ann", "bea"):
        (people / name).mkdir(parents=True)
        shutil.copy(folders / "astronaut/1.png", people / name / "1.png")

    def guarded(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "bea":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    out = run("enrol", people, "--gallery", "staff", status=1)
    assert "1 file or folder that cannot be read (bea)" in out
    assert "1 person gave no template: bea" in out


@pytest.mark.usefixtures("data_dir")
def test_large_files_and_devices_are_refused_unread(folders: Path, tmp_path: Path) -> None:
    people, report = tmp_path / "people", tmp_path / "refused.csv"
    (people / "ann").mkdir(parents=True)
    shutil.copy(folders / "astronaut/1.png", people / "ann/1.png")
    (people / "ann/film.jpg").touch()
    os.truncate(people / "ann/film.jpg", 2**40)  # without blocks
    listed = tmp_path / "listed.csv"
    listed.write_text("image,subject\nann/1.png,ann\nann/film.jpg,ann\n/dev/zero,ann\n")
    run("enrol", people, "--gallery", "staff", "--csv", listed, "--report", report, status=1)
    assert [line["code"] for line in csv.DictReader(report.read_text().splitlines())] == [
        "image_too_many_bytes",
        "image_unreadable",
    ]
    out = run("identify", people / "ann/film.jpg", "/dev/zero", "--gallery", "staff", "--json", status=1)
    assert [answer["code"] for answer in json.loads(out)] == ["image_too_many_bytes", "image_unreadable"]


@pytest.mark.usefixtures("data_dir")
def test_a_csv_list_of_photos_is_enrolled(folders: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(
        "subject,image\nann,astronaut/1.png\nbob,person 0/1.png\neve,none.png\na/b,person 2/1.png\nfay,pipe\n"
    )
    os.mkfifo(folders / "pipe")
    out = run("enrol", folders, "--gallery", "staff", "--csv", listed, status=1)
    assert re.search(r"enrolled +│ 2", out)
    (folders / "pipe").unlink()
    assert "No such file" in out
    assert "pipe: the file cannot be read: it is a pipe, a socket or a device" in out
    assert "3 people gave no template: a/b, eve, fay" in out
    assert "contains a slash" in out
    listed.write_text("who,what\n1,2\n")
    assert "columns `image` and `subject`" in str(refused("enrol", folders, "--gallery", "staff", "--csv", listed))
    (tmp_path / "empty").mkdir()
    assert "one folder for each subject" in str(refused("enrol", tmp_path / "empty", "--gallery", "staff"))


@pytest.mark.usefixtures("data_dir")
def test_a_report_does_not_overwrite_what_the_command_reads(folders: Path, tmp_path: Path) -> None:
    people, listed = tmp_path / "people", tmp_path / "list.csv"
    shutil.copytree(folders / "astronaut", people / "astronaut")
    photo, note = people / "astronaut/1.png", people / "note.txt"
    listed.write_text("image,subject\nastronaut/1.png,ann\n")
    note.write_text("mine")
    before = [path.read_bytes() for path in (photo, listed, note)]
    enrolment = ("enrol", people, "--gallery", "staff", "--csv", listed, "--report")
    for report in (photo, listed, people / "astronaut/../note.txt"):
        assert "is read by this command" in str(refused(*enrolment, report))
        assert "is read by this command" in str(
            refused("evaluate", "pictures", people, "--csv", listed, "--json", report)
        )
        assert "is read by this command" in str(refused("calibrate", people, "--csv", listed, "--out", report))
    assert [path.read_bytes() for path in (photo, listed, note)] == before
    earlier = people / "refused.csv"
    earlier.write_text("of an earlier run")
    run(*enrolment, earlier)
    assert earlier.read_text().splitlines() == ["image,subject,code,reason"]


@pytest.mark.usefixtures("data_dir")
def test_unwritable_paths_are_refused_and_markup_in_names_is_printed(folders: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    (people / "[bold]Ann").mkdir(parents=True)
    shutil.copy(folders / "astronaut/1.png", people / "[bold]Ann/1.png")
    unwritable = tmp_path / "none/report.csv"
    assert "cannot be written" in str(refused("enrol", people, "--gallery", "[red]x", "--report", unwritable))
    run("enrol", people, "--gallery", "[red]Zoe\u0308")
    assert re.search(r"duplicate +│ 1", run("enrol", people, "--gallery", "[red]Zoe\u0308"))
    assert "[red]Zo\u00eb" in run("gallery", "list")  # names are stored in composed form
    assert "[red]Zo\u00eb/[bold]Ann" in run("identify", people / "[bold]Ann/1.png", "--gallery", "[red]Zo\u00eb")
    for out in (tmp_path, Path("/dev/null"), Path(".."), tmp_path / "none/out"):
        assert refused("gallery", "export", "[red]Zo\u00eb", "--out", out).code == "storage_failed"
    assert Path("/dev/null").is_char_device()
    other = tmp_path / "other.ndjson"
    other.write_text('{"subject": "x", "contract_id": "ec1-other"}\n')
    assert refused("gallery", "import", "fresh", other).code == "contract_mismatch"
    link = tmp_path / "link.ndjson"
    link.symlink_to(other)
    run("gallery", "export", "[red]Zo\u00eb", "--out", link)
    assert link.is_symlink()
    header = other.read_text().splitlines()[0]
    for content in ("", "\n\n", header):
        other.write_text(content)
        assert "truncated" in str(refused("gallery", "import", "fresh", other))
    assert "fresh" not in run("gallery", "list"), "a gallery that received nothing does not stay"


def test_a_killed_enrolment_can_be_resumed(data_dir: Path, folders: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for folder in sorted(folders.iterdir()):
        with Image.open(folder / "1.png") as photo:
            for number in range(12):
                (many / folder.name).mkdir(parents=True, exist_ok=True)
                photo.resize((photo.width + number, photo.height + number)).save(many / folder.name / f"{number}.png")
    command = [*COMMAND, "enrol", str(many), "--gallery", "staff"]
    store = data_dir / "galleries/store.sqlite"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not stored(store):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)  # the store is the only sign that the process has begun
        process.send_signal(signal.SIGKILL)
    out = run("enrol", many, "--gallery", "staff")
    enrolled, duplicate = (int(re.findall(rf"{word} +│ (\d+)", out)[0]) for word in ("enrolled", "duplicate"))
    assert enrolled + duplicate == 84
    assert duplicate >= 16
    assert "84 templates, index flat: agrees with the store" in run("gallery", "verify", "staff")


@pytest.mark.usefixtures("data_dir")
def test_slow_clients_do_not_block_others() -> None:
    """More imports wait for their client than galleries have threads. A gallery is erased during a streamed search."""
    resume, erased = threading.Event(), threading.Event()
    ndjson = {"Content-Type": "application/x-ndjson"}
    probe = json.dumps({"id": "a", "embedding": [1.0] * 128}).encode() + b"\n"

    def slow_import() -> Iterator[bytes]:
        yield b"\n"
        assert resume.wait(20)
        yield b'{"end": {"templates": 0}}\n'

    def interrupted_search() -> Iterator[bytes]:
        yield probe
        assert erased.wait(20)
        yield probe + probe

    with serving() as server, client_of(server) as http, ThreadPoolExecutor(11) as clients:
        for name in ("staff", "guests"):
            http.post("/v1/galleries", json={"gallery": name})
        sent = [
            clients.submit(http.post, "/v1/galleries/staff/import", content=slow_import(), headers=ndjson)
            for _ in range(10)
        ]
        path = "/v1/identify?gallery=guests"
        streamed = clients.submit(http.post, path, content=interrupted_search(), headers=ndjson)
        begun = time.monotonic()
        assert len(http.get("/v1/galleries").json()["galleries"]) == 2
        time.sleep(0.3)  # time to search the first line, because no signal precedes the response
        assert http.delete("/v1/galleries/guests").status_code == 200
        assert time.monotonic() - begun < 5
        erased.set()
        items = [*map(json.loads, streamed.result().text.splitlines())]
        assert [item["status"] for item in items] == ["ok", "error", "error"]
        assert {item["problem"]["code"] for item in items[1:]} == {"gallery_unknown"}
        resume.set()
        assert {future.result().status_code for future in sent} == {200}


@pytest.mark.usefixtures("data_dir")
def test_the_service_locks_its_galleries_and_they_survive_a_kill(photos: Path) -> None:
    photo = (photos / "astronaut.png").read_bytes()
    with serving() as server, client_of(server) as http:
        assert http.post("/v1/galleries", json={"gallery": "staff"}).status_code == 201
        path = "/v1/galleries/staff/subjects/ann/templates"
        assert http.post(path, files={"images": photo}).json()["items"][0]["status"] == "enrolled"
        locked = vultus("gallery", "list")
        assert locked.returncode == 2
        assert f"process {server.pid} serves the galleries" in locked.stderr
        assert "Traceback" not in locked.stderr
        server.kill()
        server.wait(20)
    with serving() as server, client_of(server) as http:
        sent = {"images": altered(photos / "astronaut.png")}
        answer = http.post("/v1/identify", files=sent, data={"gallery": "staff"})
        (face,) = answer.json()["items"][0]["faces"]
        assert (face["decision"], face["candidates"][0]["subject"]) == ("candidates", "ann")
        assert "search;dur=" in answer.headers["server-timing"]
        assert http.delete("/v1/galleries/staff/subjects/ann").json()["template_count"] == 1
        again = http.post("/v1/identify", files=sent, data={"gallery": "staff"}).json()
        assert again["items"][0]["faces"][0]["decision"] == "unknown"
