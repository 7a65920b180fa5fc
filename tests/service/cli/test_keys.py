"""`vultus keys`, and the first start of a service: with the real program, beside it and without it."""

import json
import os
import re
import stat
import subprocess
import uuid
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.settings import load_settings
from tests.service.cli.command import vultus, vultus_here
from tests.service.test_end_to_end import COMMAND, client_of, free_port, own_galleries, serving

pytestmark = pytest.mark.usefixtures("data_dir")


def test_a_key_is_made_listed_rotated_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    made = vultus_here(
        capsys, "keys", "create", "front door", "--scope", "verify,identify", "--scope", "read", "--gallery", "staff",
        "--gallery", "tenant-*", "--rate", "50/s", "--concurrency", "4", "--expires", "90d",
    )  # fmt: skip
    assert made.returncode == 0
    token = made.stdout.splitlines()[-1]
    assert re.fullmatch(r"vultus_[0-9a-z]{12}_[0-9A-Za-z]{46}", token)
    (listed,) = json.loads(vultus_here(capsys, "keys", "list", "--json").stdout)
    assert (listed["name"], listed["scopes"], listed["galleries"], listed["rate"], listed["concurrency"]) == (
        "front door",
        ["verify", "identify", "read"],
        ["staff", "tenant-*"],
        "50/s",
        4,
    )
    table = vultus_here(capsys, "keys", "list").stdout
    assert "front door" in table
    assert "live until" in table
    assert token not in table
    rotated = json.loads(vultus_here(capsys, "keys", "rotate", "front door", "--overlap", "1h", "--json").stdout)
    assert rotated["key"].startswith(f"vultus_{rotated['id']}_")
    revoked = vultus_here(capsys, "keys", "revoke", "front door")
    assert revoked.stdout.count("is revoked") == 2
    assert "revoked" in vultus_here(capsys, "keys", "list").stdout


def test_json_has_the_id_and_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(vultus_here(capsys, "keys", "create", "door", "--scope", "admin", "--json").stdout)
    assert made["key"].split("_")[1] == made["id"]


def test_keys_of_other_products_are_made_in_their_form(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--compreface", "recognition", "--gallery", "staff", "--json"]
    made = json.loads(vultus_here(capsys, "keys", "create", "old door", *options).stdout)
    assert str(uuid.UUID(made["key"])) == made["key"]
    assert (made["protocol"], made["service"], made["galleries"]) == ("compreface", "recognition", ["staff"])
    made = json.loads(vultus_here(capsys, "keys", "create", "app", "--aws", "--gallery", "tenant-*", "--json").stdout)
    assert re.fullmatch("VULTUSAK[0-9A-Z]{12}", made["access_key_id"])
    assert len(made["secret_access_key"]) == 40
    assert "key" not in made
    shown = vultus_here(capsys, "keys", "create", "other app", "--aws").stdout
    assert "aws_access_key_id = VULTUSAK" in shown
    assert "aws_secret_access_key = " in shown
    table = vultus_here(capsys, "keys", "list").stdout
    assert "compreface" in table
    assert made["secret_access_key"] not in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "door"], "give one of --scope, --compreface and --aws"),
        (["create", "door", "--scope", "verify", "--aws"], "give one of --scope, --compreface and --aws"),
        (["create", "door", "--compreface", "recognise"], "the services are recognition, detection, verification"),
        (["create", "door", "--compreface", "recognition"], "exactly one gallery"),
        (["create", "door", "--scope", "everything"], "is not a scope; the scopes are detect, embed"),
        (["create", "door", "--scope", ""], "is not a scope"),
        (["create", "door", "--scope", "verify", "--rate", "many"], "is not a rate"),
        (["create", "door", "--scope", "verify", "--expires", "-1d"], "is not a time"),
        (["create", "door", "--scope", "verify", "--expires", "0d"], "in the past"),
        (["create", "door", "--scope", "admin", "--gallery", "staff"], "cannot be bound"),
        (["create", "a/b", "--scope", "verify"], "contains a slash"),
        (["revoke", "nobody"], "no live key has this id or name"),
        (["rotate", "nobody"], "no live key has this id or name"),
    ],
)
def test_bad_input_is_a_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    done = vultus_here(capsys, "keys", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert json.loads(vultus_here(capsys, "keys", "list", "--json").stdout) == []


def test_a_key_that_cannot_be_printed_is_not_made(data_dir: Path) -> None:
    for command in (["create", "door", "--scope", "verify"], ["create", "door", "--scope", "verify", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*COMMAND, "keys", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 2
        assert "the key cannot be printed, so it was not made" in done.stderr
        assert "Traceback" not in done.stderr
    assert data_dir.is_dir()
    assert json.loads(vultus("keys", "list", "--json").stdout) == []


def test_a_comma_in_the_name_of_a_gallery_is_no_separator(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("keys", "create", "door", "--scope", "read", "--gallery", "acme,*", "--json")
    assert json.loads(vultus_here(capsys, *command).stdout)["galleries"] == ["acme,*"]


def test_a_name_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    vultus_here(capsys, "keys", "create", "[red]door", "--scope", "verify")
    assert "[red]door" in vultus_here(capsys, "keys", "list").stdout


def test_commands_beside_a_running_service_close_it_and_end_keys_at_once(tmp_path: Path) -> None:
    environment = own_galleries(tmp_path)
    with serving(environment) as server, client_of(server) as http:
        assert http.get("/v1/galleries").status_code == 200
        assert http.get("/v1/galleries", headers={"Host": "evil.example"}).status_code == 421
        assert http.post("/v1/verify", headers={"Origin": "https://evil.example"}).status_code == 403
        made = json.loads(vultus("keys", "create", "door", "--scope", "read", "--json", env=environment).stdout)
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert http.get("/v1/galleries").status_code == 401
        assert http.get("/v1/galleries", headers=headers).status_code == 200
        assert vultus("keys", "revoke", made["id"], env=environment).returncode == 0
        assert http.get("/v1/galleries", headers=headers).json()["code"] == "key_revoked"
        server.terminate()
        log = server.communicate(timeout=30)[0]
    assert "need no key until the first one is made" in log
    assert made["key"] not in log
    (used,) = json.loads(vultus("keys", "list", "--json", env=environment).stdout)
    assert used["last_used"] is not None


def test_a_service_that_others_reach_makes_an_admin_key_once(tmp_path: Path) -> None:
    environment = own_galleries(tmp_path)
    path = tmp_path / "security" / "admin.key"
    for start in range(2):
        port = free_port()
        command = [*COMMAND, "serve", "--host", "0.0.0.0", "--port", str(port)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        process.port = port  # type: ignore[attr-defined]
        with client_of(process) as http:
            assert http.get("/v1/info").json()["code"] == "key_missing"
            key = path.read_text().strip()
            assert http.get("/v1/keys", headers={"X-Api-Key": key}).json()["keys"][0]["name"] == "admin"
        process.terminate()
        log = process.communicate(timeout=30)[1]
        assert (str(path) in log) == (start == 0)
        assert key not in log
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_check_of_keys_can_be_left_to_a_proxy(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    environment = {**own_galleries(tmp_path), "VULTUS_SECURITY__KEYS": "off"}
    command = [*COMMAND, "serve", "--uds", str(socket)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr or ():
        if "running on" in line:
            break
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://localhost") as client:
        assert client.get("/v1/info").status_code == 200
    process.terminate()
    process.communicate(timeout=30)
    assert not socket.exists()


def test_the_directory_of_keys_is_that_of_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VULTUS_SECURITY__DIRECTORY", str(tmp_path / "elsewhere"))
    vultus_here(capsys, "keys", "create", "door", "--scope", "verify")
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["audit.sqlite", "keys.sqlite", "server.secret"]  # noqa: PTH208  # names
    assert not (load_settings().data_dir / "security").exists()


def test_a_whole_run_writes_no_name_key_embedding_or_face_where_others_look(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log, problems and the audit log have none of it; what stores people has."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    environment = own_galleries(tmp_path)
    made = json.loads(vultus("keys", "create", "planted-key", "--scope", "admin", "--json", env=environment).stdout)
    headers = {"X-Api-Key": made["key"]}
    photo, name = (photos / "astronaut.png").read_bytes(), "planted-person"
    problems = b""
    with serving(environment) as server, client_of(server) as http:
        http.headers.update(headers)
        subject = f"/v1/galleries/staff/subjects/{name}"
        http.post("/v1/galleries", json={"gallery": "staff"}).raise_for_status()
        http.post("/v1/galleries/staff/subjects", json={"subject": name, "metadata": {"planted": "planted-metadata"}})
        assert http.post(f"{subject}/templates", files={"images": photo}).json()["items"][0]["status"] == "enrolled"
        embedded = http.post("/v1/embed", files={"images": photo}, data={"faces": "largest"}).json()
        embedding = np.array(embedded["items"][0]["faces"][0]["embedding"], "<f4").tobytes()
        side = json.dumps({"gallery": "staff", "subject": name})
        http.post("/v1/verify", files={"probe": photo, "reference": (None, side)}).raise_for_status()
        http.post("/v1/identify", files={"images": photo}, data={"gallery": "staff"}).raise_for_status()
        for request in (
            http.get(f"/v1/galleries/staff/subjects/{name}-missing"),
            http.post(f"/v1/galleries/staff/subjects/{name}-2/templates", files={"images": photo[:5000]}),
            http.post("/v1/galleries/staff/subjects", json={"subject": name}),
            http.get("/v1/info", params={"key": made["key"]}),
            http.get("/v1/info", headers={"X-Api-Key": made["key"] + "x"}),
            http.post("/v1/verify", files={"probe": photo, "reference": (None, side.replace(name, f"{name}-3"))}),
        ):
            assert request.is_client_error
            problems += request.content
        http.delete(subject).raise_for_status()
        server.terminate()
        log = server.communicate(timeout=30)[0].encode()
    audit = b"".join(path.read_bytes() for path in (tmp_path / "security").glob("audit*"))
    assert b"erase_subject" in audit
    secret = made["key"].removeprefix(f"vultus_{made['id']}_").encode()
    for planted in (b"planted", secret, embedding[:16], photo[1000:1016]):
        for place, written in (("log", log), ("problems", problems), ("audit", audit)):
            assert planted not in written, (planted, place)
