"""What expires is erased by itself: subjects, templates, and what is older than its gallery retains."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.audit.log import AuditLog
from service.audit.store import AuditStore
from service.expiry_watch import ExpiryWatch
from service.gallery.administration import (
    change_gallery,
    change_subject,
    create_gallery,
    create_subject,
    list_subjects,
    merge_subjects,
)
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.exchange import export_lines, import_lines
from service.gallery.expiry import due_until, erase_expired, subjects_lacking
from service.gallery.galleries import Galleries
from service.gallery.records import NEVER, NewSubject, NewTemplate
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, people, template

NOW = 1_900_000_000.0
DAY = 86400.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Galleries]:
    galleries = Galleries(tmp_path / "galleries", CONTRACT, DIMENSIONS, limits=LIMITS)
    create_gallery(galleries, "staff")
    yield galleries
    galleries.close()


def enrol(galleries: Galleries, subject: str, number: int, **times: Any) -> None:
    entry: NewTemplate = replace(template(people(50, 1)[number][0]), **times)
    store_templates(galleries, "staff", [(subject, entry)])


def left(galleries: Galleries) -> dict[str, int]:
    return {subject.name: subject.template_count for subject in list_subjects(galleries, "staff", "", -1)}


def expire(galleries: Galleries, now: float) -> list[str]:
    erased = [expired.receipt.what for part in erase_expired(galleries, now) for expired in part]
    assert check_consistency(galleries, "staff").faults == []
    assert list(erase_expired(galleries, now)) == []
    return sorted(erased)


def test_a_subject_expires_with_all_its_templates(own: Galleries) -> None:
    create_subject(own, "staff", "ann", expires=NOW)
    enrol(own, "ann", 0)
    enrol(own, "ann", 1)
    enrol(own, "bob", 2)
    assert expire(own, NOW - 1) == []
    assert expire(own, NOW) == ["subject"]
    assert left(own) == {"bob": 1}
    assert check_erasure(own).faults == []


def test_a_template_expires_and_its_subject_with_the_last_one(own: Galleries) -> None:
    enrol(own, "ann", 0, expires=NOW)
    enrol(own, "ann", 1)
    enrol(own, "bob", 2, expires=NOW)
    assert expire(own, NOW) == ["subject", "template"]
    assert left(own) == {"ann": 1}


def test_a_gallery_retains_templates_for_days(own: Galleries) -> None:
    for number in range(10):
        enrol(own, f"s{number % 4}", number, created=NOW - number * DAY)
    create_subject(own, "staff", "never enrolled")  # today, which is long before
    change_gallery(own, "staff", retain_days=5)
    expire(own, NOW)
    assert left(own) == {"s0": 2, "s1": 1, "s2": 1, "s3": 1}
    change_gallery(own, "staff", retain_days=0)
    assert expire(own, NOW + 1000 * DAY) == []
    change_gallery(own, "staff", retain_days=1)
    expire(own, NOW + 1000 * DAY)
    assert left(own) == {}


def test_many_expire_in_bounded_steps(own: Galleries) -> None:
    entries = [(f"s{n}", replace(template(vectors[0]), expires=NOW)) for n, vectors in enumerate(people(450, 1))]
    store_templates(own, "staff", entries)
    enrol(own, "stays", 7, created=NOW)
    assert len(expire(own, NOW)) == 450
    assert left(own) == {"stays": 1}


def test_an_expiry_can_be_changed_and_taken_back(own: Galleries) -> None:
    create_subject(own, "staff", "ann", expires=NOW)
    change_subject(own, "staff", "ann", metadata={"a": 1})
    assert change_subject(own, "staff", "ann", expires=NOW + 5).expires == NOW + 5
    assert change_subject(own, "staff", "ann", new_name="anna").expires == NOW + 5
    assert change_subject(own, "staff", "anna", expires=NEVER).expires is None
    assert expire(own, NOW + 10) == []


def test_an_export_carries_all_times(own: Galleries) -> None:
    subjects = {"ann": NewSubject(expires=NOW), "empty": NewSubject(expires=NOW + 1)}
    store_templates(own, "staff", [("ann", replace(template(people(2, 1)[0][0]), expires=NOW + 2))], subjects)
    change_gallery(own, "staff", retain_days=7)
    create_gallery(own, "copy")
    list(import_lines(own, "copy", export_lines(own, "staff")))
    lines = [list(map(json.loads, export_lines(own, name))) for name in ("staff", "copy")]
    assert lines[0][1:] == lines[1][1:]
    assert lines[1][0]["gallery"]["retain_days"] == 7
    assert {line["subject"]: line["subject_expires"] for line in lines[1][1:3]} == {"ann": NOW, "empty": NOW + 1}


def test_what_is_due_and_what_lacks_a_consent_is_listed(own: Galleries) -> None:
    create_subject(own, "staff", "ann", {"consent": "form 1"}, expires=NOW)
    enrol(own, "bob", 1, expires=NOW + DAY)
    enrol(own, "bob", 2, expires=NOW + 2 * DAY)
    enrol(own, "cy", 3)
    found = due_until(own, NOW + 1.5 * DAY)
    assert [tuple(due) for due in found] == [("staff", "ann", NOW, 0), ("staff", "bob", NOW + DAY, 1)]
    assert subjects_lacking(own, "staff", "consent") == ["bob", "cy"]
    change_subject(own, "staff", "bob", metadata={"consent": ""})
    assert subjects_lacking(own, "staff", "consent") == ["bob", "cy"]
    assert subjects_lacking(own, "staff", 'x" or 1') == ["ann", "bob", "cy"]


class Clocks:
    def __init__(self) -> None:
        self.wall, self.up = NOW, 100.0

    def go(self, seconds: float, jump: float = 0.0) -> None:
        self.wall += seconds + jump
        self.up += seconds


def until(reached: Any) -> None:
    end = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_watch_erases_and_records(own: Galleries, tmp_path: Path) -> None:
    clocks = Clocks()
    store = AuditStore(tmp_path / "security", bytes(32))
    audit = AuditLog(store)
    create_subject(own, "staff", "ann", expires=NOW + 10)
    watch = ExpiryWatch(own, audit, lambda: clocks.wall, lambda: clocks.up, 0.01)
    time.sleep(0.05)
    assert left(own) == {"ann": 0}
    clocks.go(10)
    until(lambda: not left(own))
    watch.close()
    audit.close()
    (record,) = store.records()
    assert json.loads(record.content)["action"] == "expire_subject"
    store.close()


def test_all_that_was_erased_is_recorded_even_if_the_watch_ends(own: Galleries, tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "security", bytes(32))
    audit = AuditLog(store)
    for number in range(30):
        create_subject(own, "staff", f"s{number}", expires=NOW)
    watch = ExpiryWatch(own, audit, lambda: NOW, lambda: 0.0, 60)
    watch.close()
    audit.close()
    assert len(list(store.records())) == 30 - len(left(own))
    store.close()


def test_a_merge_keeps_the_time_of_what_moves(own: Galleries) -> None:
    create_subject(own, "staff", "b", expires=NOW)
    enrol(own, "a", 0)
    enrol(own, "b", 1)
    enrol(own, "b", 2, expires=NOW - 5)
    merge_subjects(own, "staff", "a", "b")
    assert expire(own, NOW - 5) == ["template"]
    assert expire(own, NOW) == ["template"]
    assert left(own) == {"a": 1}


def test_a_clock_that_jumps_forward_is_not_believed_at_once(own: Galleries, caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    create_subject(own, "staff", "ann", expires=NOW + 10 * DAY)
    with caplog.at_level(logging.WARNING):
        watch = ExpiryWatch(own, None, lambda: clocks.wall, lambda: clocks.up, 0.01)
        clocks.go(1, jump=20 * DAY)
        until(lambda: "set forward by 480.0 hours" in caplog.text)
        clocks.go(1, jump=-20 * DAY)  # and set back
        time.sleep(0.05)
        assert left(own) == {"ann": 0}
        clocks.go(1, jump=20 * DAY)
        until(lambda: caplog.text.count("set forward") == 2)
        clocks.go(3601)
        until(lambda: not left(own))
        watch.close()


def test_after_a_long_stop_it_is_erased_at_the_start(own: Galleries) -> None:
    create_subject(own, "staff", "ann", expires=NOW)
    clocks = Clocks()
    clocks.wall += 1000 * DAY
    watch = ExpiryWatch(own, None, lambda: clocks.wall, lambda: clocks.up, 60)
    until(lambda: not left(own))
    watch.close()


def test_times_over_http(client: TestClient) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    made = client.post("/v1/galleries", json={"gallery": "g", "retain_days": 30}).json()
    assert made["retain_days"] == 30
    assert client.patch("/v1/galleries/g", json={"retain_days": 0}).json()["retain_days"] == 0
    subject = client.post("/v1/galleries/g/subjects", json={"subject": "ann", "expires": soon.isoformat()}).json()
    assert subject["expires"] == soon.isoformat(timespec="milliseconds")
    changed = client.patch("/v1/galleries/g/subjects/ann", json={"metadata": {}}).json()
    assert changed["expires"] == subject["expires"]
    assert client.patch("/v1/galleries/g/subjects/ann", json={"expires": "never"}).json()["expires"] is None
    embedding = [1.0] + [0.0] * (made["dimensions"] - 1)
    body = {"embeddings": [{"embedding": embedding}], "expires": soon.isoformat().replace("+00:00", "Z")}
    assert client.post("/v1/galleries/g/subjects/ann/templates", json=body).status_code == 200
    (template_,) = client.get("/v1/galleries/g/subjects/ann").json()["templates"]
    assert template_["expires"] == subject["expires"]
    line = json.dumps({"subject": "bob", "embedding": embedding[::-1], "expires": soon.isoformat()})
    headers = {"Content-Type": "application/x-ndjson"}
    assert client.post("/v1/galleries/g/templates", content=line, headers=headers).status_code == 200
    (template_,) = client.get("/v1/galleries/g/subjects/bob").json()["templates"]
    assert template_["expires"] == subject["expires"]


@pytest.mark.parametrize(
    ("expires", "reason"),
    [
        ("2001-01-01T00:00:00Z", "in the past"),
        ("2099-01-01T00:00:00", "with its offset"),
        ("2099-01-01", "with its offset"),
        ("tomorrow", "with its offset"),
        (4_000_000_000, "with its offset"),
        (True, "must be"),
        ("", "with its offset"),
        ("9999-12-31T23:59:59-23:59", "after the year"),
        ("9000-12-31T23:59:59Z", ""),
    ],
)
def test_impossible_times_are_refused(client: TestClient, expires: Any, reason: str) -> None:
    client.post("/v1/galleries", json={"gallery": "g"})
    answer = client.post("/v1/galleries/g/subjects", json={"subject": "ann", "expires": expires})
    assert answer.status_code == (422 if reason else 201), answer.text
    if reason:
        assert (answer.json()["part"], answer.json()["code"]) == ("expires", "member_invalid")
        assert reason in answer.json()["detail"]


@pytest.mark.parametrize("days", [-1, 1e9, "x", "NaN"])
def test_impossible_retentions_are_refused(client: TestClient, days: Any) -> None:
    answer = client.post("/v1/galleries", json={"gallery": "g", "retain_days": days})
    assert (answer.status_code, answer.json()["code"]) == (422, "member_invalid")
