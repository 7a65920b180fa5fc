"""Lines of the log have one form, say who asked what, and have nothing of people."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.pictures import faces_png
from tests.service.test_end_to_end import client_of, own_galleries, serving

NAME = "planted-name"

_PROGRAM = """
import logging
from service.logs import configure_logs
from service.settings import LogSettings
configure_logs(LogSettings(format={form!r}, level="info", access=False))
photo = "planted-photo"
logging.getLogger("vultus").debug("not shown")
logging.getLogger("vultus.access").info("not shown either")
logging.getLogger("uvicorn.error").info("served on %d", 8000)
logging.getLogger("vultus").info("answered", extra={{"status": 200, "key": None}})
try:
    raise ValueError("wrong")
except ValueError:
    logging.getLogger("vultus").exception("failed")
"""


def lines_of(form: str) -> list[str]:
    command = [sys.executable, "-c", _PROGRAM.format(form=form)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == ""
    assert "planted-photo" not in done.stderr.replace('photo = "planted-photo"', "")
    return done.stderr.splitlines()


def test_lines_of_all_loggers_are_json() -> None:
    served, answered, failed = map(json.loads, lines_of("json"))
    assert (served["event"], served["logger"], served["level"]) == ("served on 8000", "uvicorn.error", "info")
    assert served["timestamp"].endswith("Z")
    assert (answered["status"], "key" in answered) == (200, False)
    assert failed["level"] == "error"
    assert failed["exception"].endswith("ValueError: wrong")


def test_lines_for_people_have_a_time_a_level_and_members() -> None:
    lines = lines_of("console")
    assert lines[0].endswith("[info     ] served on 8000 [uvicorn.error]")
    assert lines[1].endswith("answered [vultus] status=200")
    assert lines[-1] == "ValueError: wrong"


def test_each_answered_request_is_a_line_without_anything_personal(tmp_path: Path) -> None:
    environment = {**own_galleries(tmp_path), "VULTUS_LOG__FORMAT": "json", "VULTUS_LOG__ACCESS": "true"}
    with serving(environment) as process:
        with client_of(process) as client:
            client.post("/v1/galleries", json={"gallery": f"gallery-{NAME}"})
            client.post(f"/v1/galleries/gallery-{NAME}/subjects/{NAME}/templates", files={"images": faces_png(0)})
            client.get(f"/v1/galleries/gallery-{NAME}/subjects/{NAME}", headers={"X-Request-Id": "mine"})
            client.get(f"/no/{NAME}")
        process.terminate()
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
    answered = [line for line in lines if line["event"] == "answered" and line["route"] not in ("/readyz",)]
    assert [(line["method"], line["route"], line["status"]) for line in answered] == [
        ("POST", "/v1/galleries", 201),
        ("POST", "/v1/galleries/{gallery}/subjects/{subject}/templates", 422),
        ("GET", "/v1/galleries/{gallery}/subjects/{subject}", 404),
        ("GET", "", 404),
    ]
    assert answered[2]["request_id"] == "mine"
    assert answered[1]["problem"] == "no_face"
    assert answered[1]["stages"]["detect"] > 0
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert any("Uvicorn running on" in line["event"] for line in lines)
    assert NAME not in json.dumps(lines)
