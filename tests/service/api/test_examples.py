"""Every example in the API pages, and every request of the front page, is answered as printed by the real models."""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.serving.models import Models
from service.api.example_photo import EXAMPLE_PHOTO
from tests.client import Guarded, guarded_client
from tests.conftest import ROOT, galleries_for
from tests.service.test_end_to_end import client_of, own_galleries, serving

BEFORE = (  # operations whose examples make what those of others name, in order
    "create_gallery",
    "create_subject",
    "enrol",
    "create_key",
)
LAST = ("merge_subjects", "change_subject", "change_gallery")  # the subject and the gallery have another name then


@pytest.fixture(scope="module")
def guarded(real_models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("examples")
    with (
        galleries_for(real_models, directory / "galleries") as galleries,
        guarded_client(real_models, galleries, directory / "security") as opened,
    ):
        yield opened


def examples(document: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """Return operation id, method, path and JSON body of each example, in an order in which they can be sent."""
    found = [
        (operation["operationId"], method, path, content["example"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if "example" in content
    ]
    order = {name: place for place, name in enumerate(BEFORE)} | {name: 100 + place for place, name in enumerate(LAST)}
    return sorted(found, key=lambda each: order.get(each[0], 50))


def test_every_example_is_answered_as_printed(guarded: Guarded) -> None:
    key = guarded.key("admin", "detect", "embed", "verify", "identify", "enrol", "read", "erase", "export")
    client = guarded.client
    found = examples(client.get("/openapi.json").json())
    assert len(found) >= 13
    names = {"gallery": "staff", "subject": "ann"}
    for operation, method, path, body in found:
        if operation == "merge_subjects":
            client.post("/v1/galleries/staff/subjects", json={"subject": body["subject"]}, headers=key)
        address = re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)
        answer = client.request(method.upper(), address, json=body, headers=key)
        assert answer.is_success, (operation, answer.text)
        if operation == "create_key":
            names["key_id"] = answer.json()["id"]
        if operation in ("detect", "embed"):
            assert len(answer.json()["items"][0]["faces"]) == 1
        if operation == "identify":
            assert answer.json()["items"][0]["faces"][0]["candidates"][0]["subject"] == "ann"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_request_of_the_front_page_is_answered_as_printed(tmp_path: Path, photos: Path) -> None:
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^(?:curl|api=).*$", text, re.MULTILINE)
    assert sum(line.startswith("curl") for line in lines) == 5
    for name in set(re.findall(r"@(\w+)\.jpg", text)):
        (tmp_path / f"{name}.jpg").write_bytes(base64.b64decode(EXAMPLE_PHOTO))
    (tmp_path / "ann2.jpg").write_bytes((photos / "astronaut.png").read_bytes())
    with serving(own_galleries(tmp_path / "data")) as server, client_of(server):
        port = str(server.port)  # type: ignore[attr-defined]
        script = "\n".join(re.sub(r"^curl", "curl --silent --show-error --fail-with-body", line) for line in lines)
        done = subprocess.run(
            ["sh", "-e", "-c", script.replace("8000", port)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
