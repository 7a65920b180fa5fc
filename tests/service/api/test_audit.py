"""What requests leave in the audit log: who acted, on what, with which decision, and nobody's name."""

import json
import re
import sqlite3
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.serving.models import Models
from service.app import create_app
from service.audit.store import STORE
from service.errors import StorageFull
from service.gallery.galleries import Galleries
from service.settings import Settings
from tests.client import Guarded, api_client
from tests.pictures import faces_png

NAME = "planted-name"
METADATA = {"badge": "planted-metadata"}


def recorded(guarded: Guarded) -> list[dict[str, Any]]:
    return [json.loads(record.content) for record in guarded.audit.records()]


@pytest.fixture
def send(guarded: Guarded) -> Callable[..., Any]:
    headers = guarded.key("admin", name="admin")

    def send(method: str, url: str, **options: Any) -> Any:
        response = guarded.client.request(method, url, headers={**headers, **options.pop("headers", {})}, **options)
        assert response.status_code < 300, response.text
        return response

    return send


def test_every_act_is_recorded_without_a_name(guarded: Guarded, send: Callable[..., Any], fake_models: Models) -> None:
    subject = f"/v1/galleries/staff/subjects/{NAME}"
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    send("PATCH", "/v1/galleries/staff", json={"metadata": METADATA})
    send("POST", "/v1/galleries/staff/subjects", json={"subject": NAME, "metadata": METADATA})
    template = send("POST", f"{subject}/templates", files={"images": faces_png(1)}).json()["items"][0]["template"]
    lines = json.dumps({"subject": f"{NAME}-2", "embedding": unit(fake_models, 3)}) + "\n"
    send("POST", "/v1/galleries/staff/templates", content=lines, headers={"Content-Type": "application/x-ndjson"})
    side = json.dumps({"gallery": "staff", "subject": NAME})
    verified = send("POST", "/v1/verify", files={"probe": faces_png(1), "reference": (None, side)}).json()
    found = send("POST", "/v1/identify", files={"images": faces_png(1)}, data={"gallery": "staff"}).json()
    send("POST", "/v1/verify", files={"probe": faces_png(1), "reference": faces_png(1, 5)})
    exported = send("GET", "/v1/galleries/staff/export").content
    send("PATCH", subject, json={"subject": f"{NAME}-3"})
    send("POST", f"/v1/galleries/staff/subjects/{NAME}-3/merge", json={"subject": f"{NAME}-2"})
    send("DELETE", f"/v1/galleries/staff/subjects/{NAME}-3/templates/{template}")
    send("DELETE", f"/v1/galleries/staff/subjects/{NAME}-3")
    send("POST", "/v1/galleries/staff/import", content=exported, headers={"Content-Type": "application/x-ndjson"})
    send("DELETE", "/v1/galleries/staff")
    key = send("POST", "/v1/keys", json={"name": "planted-key-name", "scopes": ["verify"]}).json()
    send("POST", f"/v1/keys/{key['id']}/rotate", json={})
    send("DELETE", f"/v1/keys/{key['id']}")
    send("POST", "/v1/detect", files={"images": faces_png(1)})  # not an act on people
    send("GET", "/v1/galleries")

    records = recorded(guarded)
    assert [record["action"] for record in records] == [
        *("create_gallery", "change_gallery", "create_subject", "enrol", "enrol", "verify", "identify", "verify"),
        *("export", "change_subject", "merge_subjects", "erase_template", "erase_subject", "import", "erase_gallery"),
        *("create_key", "rotate_key", "revoke_key"),
    ]
    (admin,) = (entry for entry in guarded.keys.list_all() if entry.name == "admin")
    assert {record["key"] for record in records} == {admin.id}
    by_action = {record["action"]: record for record in records}
    (pseudonym,) = by_action["create_subject"]["subjects"]
    assert re.fullmatch(r"[0-9A-F]{32}", pseudonym)
    for action in ("change_subject", "erase_template", "erase_subject"):
        assert by_action[action]["subjects"] == [pseudonym]
    assert records[3]["subjects"] == [pseudonym]
    assert records[5]["subjects"] == [pseudonym]
    assert records[5]["outcomes"] == [{"decision": "match", "similarity": round(verified["similarity"], 3)}]
    assert records[5]["operating_point"] == "fmr_1e-3"
    assert records[5]["contract_id"] == fake_models.contract_id
    assert records[5]["route"] == "POST /v1/verify"
    assert records[4]["route"] == "POST /v1/galleries/{gallery}/templates"
    faces = found["items"][0]["faces"]
    assert [outcome["decision"] for outcome in records[6]["outcomes"]] == [face["decision"] for face in faces]
    assert records[6]["outcomes"][0]["subject"] == pseudonym
    assert by_action["merge_subjects"]["subjects"][0] == pseudonym  # who stays
    assert len(by_action["merge_subjects"]["subjects"]) == 2
    assert (by_action["import"]["count"], by_action["erase_subject"]["count"]) == (2, 1)
    assert by_action["create_key"]["changed_key"] == key["id"]
    assert all(re.fullmatch(r"[0-9a-f]{32}", record["request_id"]) for record in records)
    assert list(guarded.audit.faults()) == []
    written = b"".join(path.read_bytes() for path in guarded.audit.directory.glob("audit*"))
    assert b"planted" not in written
    assert admin.id.encode() in written


def unit(models: Models, seed: int) -> list[float]:
    vector = np.random.default_rng(seed).normal(size=models.recognizer.dimensions)
    return [float(number) for number in vector / np.linalg.norm(vector)]


def test_the_log_is_listed_newest_first_in_pages(guarded: Guarded, send: Callable[..., Any]) -> None:
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    send("POST", f"/v1/galleries/staff/subjects/{NAME}/templates", files={"images": faces_png(1)})
    send("POST", "/v1/verify", files={"probe": faces_png(1), "reference": faces_png(1)})
    first = send("GET", "/v1/audit", params={"limit": 2}).json()
    assert [record["number"] for record in first["records"]] == [3, 2]
    assert first["next"] == 2
    last = send("GET", "/v1/audit", params={"limit": 2, "before": first["next"]}).json()
    assert ([record["number"] for record in last["records"]], last["next"]) == ([1], None)
    assert send("GET", "/v1/audit", params={"before": 1}).json() == {"records": [], "next": None}
    everything = send("GET", "/v1/audit").json()["records"]
    assert everything == first["records"] + last["records"]
    for shown, record in zip(everything[::-1], recorded(guarded), strict=True):
        given = {name: value for name, value in shown.items() if value not in (None, [])}
        given["outcomes"] = [{k: v for k, v in one.items() if v is not None} for one in given.get("outcomes", [])]
        assert {**given, "number": 0} == {"outcomes": [], **record, "number": 0}
    assert len(recorded(guarded)) == 3  # a look at the log is not an act on people
    assert "planted" not in json.dumps(everything)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=0", "before=-1", "before=x", "number=1"])
def test_a_malformed_page_of_the_log_is_refused(guarded: Guarded, query: str) -> None:
    assert guarded.client.get(f"/v1/audit?{query}", headers=guarded.key("admin")).status_code == 422


def test_an_altered_record_is_a_sentence(guarded: Guarded, send: Callable[..., Any]) -> None:
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    headers = guarded.key("admin", name="other")
    for content in ("{}", "[", "[1]"):
        with sqlite3.connect(guarded.audit.directory / STORE) as connection:
            connection.execute("UPDATE audit_records SET content = ?", (content,))
        connection.close()
        answer = guarded.client.get("/v1/audit", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (500, "audit_unfit")
        assert answer.json()["detail"] == "record 1 was changed; run vultus audit verify"


def test_without_a_log_that_is_said(fake_models: Models, galleries: Galleries) -> None:
    with api_client(create_app(fake_models, galleries, Settings())) as client:
        answer = client.get("/v1/audit")
    assert (answer.status_code, answer.json()["code"]) == (409, "audit_off")


def test_nothing_links_the_log_to_an_erased_person(guarded: Guarded, send: Callable[..., Any]) -> None:
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    pseudonyms = []
    for _ in range(2):  # the same person again has another pseudonym
        send("POST", f"/v1/galleries/staff/subjects/{NAME}/templates", files={"images": faces_png(1)})
        pseudonyms.append(recorded(guarded)[-1]["subjects"])
        send("DELETE", f"/v1/galleries/staff/subjects/{NAME}")
    assert pseudonyms[0] != pseudonyms[1]
    backend = guarded.client.app.state.backend  # type: ignore[attr-defined]
    stored = b"".join(path.read_bytes() for path in backend.galleries.directory.iterdir())
    assert bytes.fromhex(pseudonyms[0][0]) not in stored


def test_refused_and_failed_requests_are_not_acts(guarded: Guarded, send: Callable[..., Any]) -> None:
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    key = guarded.key("read")
    for method, url in (("POST", "/v1/verify"), ("DELETE", "/v1/galleries/staff"), ("GET", "/v1/galleries/none")):
        assert guarded.client.request(method, url, headers=key).status_code in (403, 404)
    assert len(recorded(guarded)) == 1


def test_a_service_without_keys_records_too(client: Any) -> None:
    client.post("/v1/galleries", json={"gallery": "staff"})
    log = client.app.state.backend.auditor._log._store
    (record,) = log.records()
    assert json.loads(record.content)["key"] == "open"


def test_what_cannot_be_recorded_is_not_done(
    guarded: Guarded, send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    send("POST", "/v1/galleries", json={"gallery": "staff"})
    headers = guarded.key("admin", name="other")

    def fail(_contents: Any, _durable: bool = True) -> int:
        raise StorageFull("the disk is full; nothing was changed")

    with monkeypatch.context() as full:
        full.setattr(guarded.audit, "append", fail)
        photos = {"probe": faces_png(1), "reference": faces_png(1)}
        refused = guarded.client.post("/v1/verify", files=photos, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "audit_stopped")
        for method, url, options in (
            ("POST", "/v1/galleries", {"json": {"gallery": "guests"}}),
            ("POST", "/v1/galleries/staff/subjects/ann/templates", {"files": {"images": faces_png(1)}}),
            ("DELETE", "/v1/galleries/staff", {}),
            ("POST", "/v1/keys", {"json": {"name": "x", "scopes": ["verify"]}}),
        ):
            answer = guarded.client.request(method, url, headers=headers, **options)
            assert answer.json()["code"] == "audit_stopped"
        assert guarded.client.get("/v1/galleries", headers=headers).status_code == 200  # reads go on
    listed = guarded.client.get("/v1/galleries", headers=headers).json()["galleries"]
    assert [(gallery["gallery"], gallery["subject_count"]) for gallery in listed] == [("staff", 0)]
    assert guarded.client.post("/v1/verify", files=photos, headers=headers).status_code == 200
    assert len(guarded.keys.list_all()) == 2
