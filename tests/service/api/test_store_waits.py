"""Requests that wait for other writers of the store: they end at their deadline, and hold no place of inference."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from models.deadline import Deadline
from models.errors import DeadlineExceeded, RequestCancelled
from models.runtime.fake import fake_embedding
from service.gallery.exchange import export_lines
from service.gallery.galleries import Galleries
from service.gallery.store import gallery_rows, subject_rows
from tests.gates import GatedSession, until
from tests.pictures import faces_png
from tests.service.api.test_galleries import NDJSON, lines, vector
from tests.service.api.test_load import Running, embed, running, sharing_models

LATE = {"X-Request-Timeout-Ms": "150"}


@contextmanager
def busy_writer(galleries: Galleries) -> Iterator[None]:
    """Exclude other writers during the block, from another thread, as maintenance does."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with galleries.database.exclusive():
            entered.set()
            assert leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(10)
    try:
        yield
    finally:
        leave.set()
        holder.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    session = GatedSession(fake_embedding)
    session.gate.set()
    with running(sharing_models(session), tmp_path, concurrency=1, waiting=0) as served:
        address = f"http://127.0.0.1:{served.port}/v1/galleries"
        httpx.post(address, json={"gallery": "staff"}).raise_for_status()
        for seed, subject in enumerate(("ann", "bob")):
            files = {"images": faces_png(1, seed)}
            httpx.post(f"{address}/staff/subjects/{subject}/templates", files=files).raise_for_status()
        yield served


def send(served: Running, method: str, path: str, **request: Any) -> httpx.Response:
    return httpx.request(method, f"http://127.0.0.1:{served.port}/v1/galleries{path}", timeout=30, **request)


def contents(galleries: Galleries) -> list[Any]:
    with galleries.database.reading() as connection:
        found = list(gallery_rows.iterate(connection))
        subjects = [subject_rows.page(connection, gallery, "", -1) for gallery in found]
    return [found, subjects, [list(export_lines(galleries, gallery.name)) for gallery in found]]


def line() -> bytes:
    return lines({"subject": "new", "embedding": vector(7)})


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "enrol photos": ("POST", "/staff/subjects/new/templates", {"files": {"images": faces_png(1, 9)}}),
    "enrol embeddings": ("POST", "/staff/subjects/new/templates", {"json": {"embeddings": [vector(7)]}}),
    "create a gallery": ("POST", "", {"json": {"gallery": "other"}}),
    "change a gallery": ("PATCH", "/staff", {"json": {"gallery": "crew"}}),
    "erase a gallery": ("DELETE", "/staff", {}),
    "create a subject": ("POST", "/staff/subjects", {"json": {"subject": "new"}}),
    "change a subject": ("PATCH", "/staff/subjects/ann", {"json": {"metadata": {"a": 1}}}),
    "merge subjects": ("POST", "/staff/subjects/ann/merge", {"json": {"subject": "bob"}}),
    "erase a subject": ("DELETE", "/staff/subjects/ann", {}),
    "erase a template": ("DELETE", "/staff/subjects/ann/templates/1", {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_answered_with_504_while_writers_are_busy_changes_nothing(
    served: Running, change: str
) -> None:
    method, path, request = CHANGES[change]
    galleries = served.backend.galleries
    before = contents(galleries)
    with busy_writer(galleries):
        late = send(served, method, path, **request, headers=LATE)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    until(lambda: served.backend.store_workers.borrowed_tokens == 0)
    assert contents(galleries) == before
    assert send(served, method, path, **request).is_success


def test_lines_that_are_answered_with_504_while_writers_are_busy_are_not_stored(served: Running) -> None:
    galleries = served.backend.galleries
    before = contents(galleries)
    member = {"subject": "new", "contract_id": galleries.contract_id, "embedding": vector(7)}
    with busy_writer(galleries):
        streamed = send(served, "POST", "/staff/templates", content=line(), headers={**NDJSON, **LATE})
        imported = send(served, "POST", "/staff/import", content=lines(member), headers={**NDJSON, **LATE})
    assert json.loads(streamed.text)["problem"]["code"] == "deadline_exceeded"
    assert imported.status_code == 504
    until(lambda: served.backend.store_workers.borrowed_tokens == 0)
    assert contents(galleries) == before


def test_an_enrolment_that_waits_for_the_store_leaves_its_place_to_others(served: Running) -> None:
    """The service has one place. Another request is computed while enrolments wait for the store."""
    backend = served.backend
    with ThreadPoolExecutor(2) as clients, busy_writer(backend.galleries):
        method, path, request = CHANGES["enrol photos"]
        waiting = clients.submit(send, served, method, path, **request)
        until(lambda: backend.store_workers.borrowed_tokens == 1)
        streamed = clients.submit(send, served, "POST", "/staff/templates", content=line(), headers=NDJSON)
        until(lambda: backend.store_workers.borrowed_tokens == 2)
        assert backend.admission._inside.total() == 0
        assert backend.inference_workers.borrowed_tokens == 0
        assert embed(served.port, seed=5).status_code == 200
        assert not waiting.done()
        assert not streamed.done()
    assert waiting.result().json()["items"][0]["status"] == "enrolled"
    assert json.loads(streamed.result().text)["status"] == "enrolled"


def test_gallery_routes_that_read_answer_while_changes_and_checks_wait(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries = served.backend.galleries
    built: Future[None] = Future()  # a build of an index that has not ended
    monkeypatch.setitem(galleries._tasks, 1, built)
    with ThreadPoolExecutor(32) as clients, busy_writer(galleries):
        changes = [
            clients.submit(send, served, "POST", "/staff/subjects", json={"subject": f"s{number}"})
            for number in range(16)
        ]
        checks = [clients.submit(send, served, "POST", "/staff/verify", json={}) for _ in range(12)]
        until(lambda: served.backend.store_workers.statistics().tasks_waiting == 12)
        until(lambda: served.backend.upkeep_workers.statistics().tasks_waiting == 10)
        assert send(served, "GET", "").json()["galleries"][0]["subject_count"] == 2
        assert send(served, "GET", "/staff/subjects/ann").status_code == 200
        built.set_result(None)
    assert {sent.result().status_code for sent in changes} == {201}
    assert {sent.result().json()["good"] for sent in checks} == {True}


def test_a_consistency_check_neither_excludes_writers_nor_reports_their_changes(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries = served.backend.galleries
    index = galleries.live(gallery_of(galleries)).current
    assert index is not None
    blocks = index.blocks

    def changing_blocks() -> Iterator[Any]:
        for block in blocks():
            assert send(served, "DELETE", "/staff/subjects/ann").is_success  # waits for no check
            assert send(served, "POST", "/staff/subjects/new/templates", json={"embeddings": [vector(8)]}).is_success
            yield block

    monkeypatch.setattr(index, "blocks", changing_blocks)
    checked = send(served, "POST", "/staff/verify", json={}).json()
    assert (checked["good"], checked["faults"]) == (True, [])


def gallery_of(galleries: Galleries) -> Any:
    with galleries.database.reading() as connection:
        return gallery_rows.find(connection, "staff")


def test_a_change_of_a_client_that_disconnects_while_it_waits_is_not_made(served: Running) -> None:
    galleries = served.backend.galleries
    before = contents(galleries)
    member = {"subject": "new", "contract_id": galleries.contract_id, "embedding": vector(7)}
    streams: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/staff/templates", {"content": line(), "headers": NDJSON}),
        ("POST", "/staff/import", {"content": lines(member), "headers": NDJSON}),
    ]
    with busy_writer(galleries):
        for method, path, request in [*CHANGES.values(), *streams]:
            with pytest.raises(httpx.ReadTimeout):
                httpx.request(method, f"http://127.0.0.1:{served.port}/v1/galleries{path}", timeout=0.2, **request)
        until(lambda: served.backend.store_workers.borrowed_tokens == 0)
    assert contents(galleries) == before


def test_a_change_that_has_begun_is_answered_even_after_its_deadline(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer must report what was stored."""
    add: Callable[..., Any] = gallery_rows.add
    late = threading.Event()

    def slowly(*arguments: Any) -> Any:
        late.wait(0.4)  # longer than the time limit
        return add(*arguments)

    monkeypatch.setattr(gallery_rows, "add", slowly)
    created = send(served, "POST", "", json={"gallery": "other"}, headers=LATE)
    assert (created.status_code, created.json()["gallery"]) == (201, "other")


def test_a_settled_request_neither_expires_nor_is_cancelled() -> None:
    now = iter(np.arange(0, 100, 0.5))
    deadline = Deadline(1.0, clock=lambda: float(next(now)))
    deadline.settle()
    deadline.cancel()
    for _ in range(5):
        deadline.check()
    assert deadline.active
    assert not deadline.expire()


def test_an_expired_or_cancelled_request_cannot_settle() -> None:
    expired, cancelled = Deadline(60), Deadline(60)
    assert expired.expire()
    with pytest.raises(DeadlineExceeded):
        expired.settle()
    cancelled.cancel()
    with pytest.raises(RequestCancelled):
        cancelled.settle()
