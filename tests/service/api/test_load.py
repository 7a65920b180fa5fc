"""Load: requests get their own responses, excess requests are refused at once, and abandoned work ends."""

import base64
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import httpx2 as httpx
import numpy as np
import orjson
import pytest
import uvicorn

from models.alignment import TEMPLATES
from models.deadline import Deadline
from models.embedding import Embedder
from models.pipeline import EmbeddedPhoto, Pipeline
from models.runtime import BatchedSession, Batching
from models.runtime.fake import fake_embedding
from models.runtime.session import Arrays, Images
from models.serving.models import Models
from service.api.admission import Admission
from service.api.backend import Backend
from service.api.intake.ndjson import in_full_groups
from service.app import create_app
from service.errors import Overloaded
from service.http_protocol import HttpProtocol
from service.settings import BatchingSettings, RequestSettings, Settings
from tests.bench.speed.load import Request, closed_loop, multipart
from tests.conftest import FakeDetector, galleries_for, models_without_weights
from tests.gates import GatedSession, until
from tests.pictures import faces_png


def sharing_models(session: GatedSession, lanes: int = 1) -> Models:
    models = models_without_weights()
    shared = BatchedSession(session, Batching(8, lanes, 0.0))
    pipeline = Pipeline(FakeDetector(), Embedder(shared, TEMPLATES["arcface-112"]), workers=4)
    return replace(models, pipeline=pipeline, shared=(shared,))


class Running(NamedTuple):
    port: int
    backend: Backend
    server: uvicorn.Server

    @property
    def queue(self) -> list[Any]:
        """The entries that wait for the recognizer."""
        return list(self.backend.models.shared[0]._queue)


@contextmanager
def running(models: Models, directory: Path, **limits: Any) -> Iterator[Running]:
    """Run the service on a free port in a thread of this process."""
    settings = Settings(request=RequestSettings(**{"shutdown_s": 10, **limits}))
    with galleries_for(models, directory) as galleries, socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(models, galleries, settings)
        shutdown_s = settings.request.shutdown_s
        config = uvicorn.Config(app, http=HttpProtocol, log_level="warning", timeout_graceful_shutdown=shutdown_s)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        try:
            yield Running(listener.getsockname()[1], app.state.backend, server)
        finally:
            for shared in models.shared:
                shared._session.gate.set()  # type: ignore[attr-defined]
            server.should_exit = True
            thread.join()
            models.close()


@pytest.fixture
def gated() -> GatedSession:
    return GatedSession(fake_embedding)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def embed(port: int, faces: int = 1, seed: int = 0, headers: dict[str, str] | None = None) -> httpx.Response:
    content, headers = faces_png(faces, seed), {"Content-Type": "image/png", **(headers or {})}
    return httpx.post(f"http://127.0.0.1:{port}/v1/embed", content=content, headers=headers, timeout=30)


class Busy(GatedSession):
    """A session that takes long enough for other requests to arrive meanwhile."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        time.sleep(0.003)
        return super().run(images, deadline)


@pytest.mark.parametrize("count", [800, pytest.param(5000, marks=pytest.mark.full)])
def test_interleaved_requests_each_get_their_own_response(tmp_path: Path, count: int) -> None:
    busy = Busy(fake_embedding)
    busy.gate.set()
    models, alone = sharing_models(busy, lanes=2), models_without_weights()
    requests = []
    for seed in range(40):
        photo = faces_png(1 + seed % 5, seed)
        (expected,) = alone.pipeline.embed([photo], "all", Deadline())
        assert isinstance(expected, EmbeddedPhoto)
        requests.append(Request(multipart("/v1/embed", [("images", photo)], {}), is_of(expected)))
    with running(models, tmp_path, waiting=64) as served:
        outcome = closed_loop(served.port, requests, clients=24, most=count)
    assert outcome.wrong == 0
    assert outcome.statuses == {200: count}
    assert max(shape[0] for shape in busy.batches) > 5  # no request has more than five faces, so runs were shared


def is_of(expected: EmbeddedPhoto) -> Any:
    embeddings = np.stack([face.embedding for face in expected.faces])

    def is_correct(_status: int, body: bytes) -> bool:
        (item,) = orjson.loads(body)["items"]
        return np.array_equal(np.array([face["embedding"] for face in item["faces"]], np.float32), embeddings)

    return is_correct


def test_refuses_requests_without_a_free_place_at_once(
    gated: GatedSession, tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with running(sharing_models(gated), tmp_path, concurrency=2, waiting=1) as served:
        inside = [clients.submit(embed, served.port, seed=seed) for seed in range(3)]
        until(lambda: served.backend.admission._inside.total() == 3)
        with socket.create_connection(("127.0.0.1", served.port)) as slow:  # refused before its body arrives
            slow.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
            answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 429")
        refused = embed(served.port)
        assert refused.status_code == 429
        assert refused.json()["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        healthz = httpx.get(f"http://127.0.0.1:{served.port}/healthz")
        assert healthz.status_code == 200  # requests that do not compute are always admitted
        gated.gate.set()
        assert [future.result().status_code for future in inside] == [200] * 3
        assert embed(served.port).status_code == 200


def test_requests_of_disconnected_clients_are_not_computed(
    gated: GatedSession, tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    photo = faces_png(3, 7)
    head = (
        f"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(photo)}\r\n\r\n"
    )
    with running(sharing_models(gated), tmp_path, concurrency=4) as served:
        first = clients.submit(embed, served.port)
        gated.entered.acquire()
        with socket.create_connection(("127.0.0.1", served.port)) as leaver:
            leaver.sendall(head.encode() + photo)
            until(lambda: len(served.queue) == 1)
            (left,) = served.queue
        until(lambda: not left.active)
        stays = clients.submit(embed, served.port, 2)
        until(lambda: [len(entry.images) for entry in served.queue] == [2])
        gated.gate.set()
        assert first.result().status_code == stays.result().status_code == 200
    assert [shape[0] for shape in gated.batches] == [1, 2]


def test_a_request_that_exceeds_its_deadline_is_a_504_even_if_the_engine_hangs(
    gated: GatedSession, tmp_path: Path
) -> None:
    with running(sharing_models(gated), tmp_path, timeout_s=20) as served:
        start = time.monotonic()
        late = embed(served.port, headers={"X-Request-Timeout-Ms": "200"})
        assert time.monotonic() - start < 5
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert "within 0.2 s" in late.json()["detail"]
        for wrong in ("0", "-5", "1.5", "soon", "9" * 10):
            refused = embed(served.port, headers={"X-Request-Timeout-Ms": wrong})
            assert (refused.status_code, refused.json()["part"]) == (422, "X-Request-Timeout-Ms")


def test_the_time_limit_of_the_service_includes_the_body(gated: GatedSession, tmp_path: Path) -> None:
    with (
        running(sharing_models(gated), tmp_path, timeout_s=0.3) as served,
        socket.create_connection(("127.0.0.1", served.port)) as slow,
    ):
        slow.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        answer = slow.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer


def test_late_work_keeps_its_worker_and_its_place_until_it_ends(gated: GatedSession, tmp_path: Path) -> None:
    with running(sharing_models(gated, lanes=4), tmp_path, concurrency=2, waiting=1) as served:
        for _ in range(2):
            assert embed(served.port, headers={"X-Request-Timeout-Ms": "100"}).status_code == 504
        admission, workers = served.backend.admission, served.backend.inference_workers
        assert (admission._inside.total(), workers.borrowed_tokens) == (2, 2)
        assert embed(served.port, headers={"X-Request-Timeout-Ms": "100"}).status_code == 504  # it got no worker
        until(lambda: admission._inside.total() == 2)
        gated.gate.set()
        until(lambda: admission._inside.total() == 0 and workers.borrowed_tokens == 0)
        assert embed(served.port).status_code == 200
    assert [shape[0] for shape in gated.batches] == [1, 1, 1]


def test_a_failed_request_frees_its_place(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    with running(sharing_models(gated), tmp_path, concurrency=1, waiting=0) as served:
        for _ in range(3):
            assert httpx.post(f"http://127.0.0.1:{served.port}/v1/embed", content=b"x").status_code == 415
        assert embed(served.port).status_code == 200


def unfinished(port: int, path: str, media_type: str, begun: bytes = b"{") -> socket.socket:
    """Send a request that declares a body of 50,000 bytes, and only the beginning of the body."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: 50000\r\n\r\n"
    connection.sendall(head.encode() + begun)
    return connection


def test_every_body_has_a_time_limit(gated: GatedSession, tmp_path: Path) -> None:
    with running(sharing_models(gated), tmp_path, timeout_s=0.3) as served:
        for path, media_type in (("/v1/galleries", "application/json"), ("/v1/detect", "image/jpeg")):
            with unfinished(served.port, path, media_type) as slow:
                answer = slow.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"body_too_slow" in answer
            assert b"\r\nconnection: close\r\n" in answer.lower()  # a slow client does not keep its connection


def test_requests_that_shutdown_cancels_get_an_error(gated: GatedSession, tmp_path: Path) -> None:
    with ExitStack() as connections:
        with running(sharing_models(gated), tmp_path, shutdown_s=1) as served:
            galleries = f"http://127.0.0.1:{served.port}/v1/galleries"
            httpx.post(galleries, json={"gallery": "g"}).raise_for_status()
            cancelled = [
                connections.enter_context(unfinished(served.port, path, media_type, begun))
                for path, media_type, begun in (
                    ("/v1/detect", "image/jpeg", b"{"),
                    ("/v1/galleries", "application/json", b"{"),
                    ("/v1/galleries/g/import", "application/x-ndjson", b"{"),
                    ("/v1/galleries/g/templates", "application/x-ndjson", b"{"),
                    ("/v1/galleries/g/templates", "application/x-ndjson", b"{}\n{"),
                )
            ]
            until(lambda: len(served.server.server_state.tasks) == len(cancelled))
        answers = [connection.makefile("rb").read() for connection in cancelled]
    *plain, lines = answers
    assert [answer[:12] for answer in plain] == [b"HTTP/1.1 503"] * 4
    assert lines.startswith(b"HTTP/1.1 200")  # the response started with the first line; its last line is the error
    assert all(b"engine_stopped" in answer for answer in answers)


def test_bodies_in_memory_are_bounded(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    with running(sharing_models(gated), tmp_path, buffered_bytes=100_000) as served:
        address = ("127.0.0.1", served.port)
        head = b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 90000\r\n\r\n"
        with socket.create_connection(address) as first, socket.create_connection(address) as second:
            first.sendall(head + bytes(80_000))
            until(lambda: served.backend.bodies._left <= 20_000)
            second.sendall(head + bytes(80_000))
            assert second.recv(4096).startswith(b"HTTP/1.1 429")
        until(lambda: served.backend.bodies._left == 100_000)
        assert embed(served.port).status_code == 200


def test_ndjson_requests_have_admission_and_time_limits_too(gated: GatedSession, tmp_path: Path) -> None:
    line = orjson.dumps({"image": base64.b64encode(faces_png(1)).decode()}) + b"\n"
    headers = {"Content-Type": "application/x-ndjson", "X-Request-Timeout-Ms": "200"}
    with running(sharing_models(gated), tmp_path, concurrency=1, waiting=0) as served:
        address = f"http://127.0.0.1:{served.port}"
        httpx.post(f"{address}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        late = httpx.post(f"{address}/v1/identify?gallery=g", content=line, headers=headers)
        assert orjson.loads(late.content)["problem"]["code"] == "deadline_exceeded"
        assert httpx.post(f"{address}/v1/identify?gallery=g", content=line, headers=headers).status_code == 429
        gated.gate.set()
        until(lambda: served.backend.admission._inside.total() == 0)


def test_readiness_answers_even_if_the_engine_hangs(
    gated: GatedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.backend.PROBE_S", 0.2)
    with running(sharing_models(gated), tmp_path) as served:
        for _ in range(2):
            unready = httpx.get(f"http://127.0.0.1:{served.port}/readyz", timeout=5)
            assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
        gated.gate.set()
        until(lambda: served.backend.probe_workers.borrowed_tokens == 0)
        monkeypatch.setattr("service.api.backend.PROBE_S", 5.0)
        assert httpx.get(f"http://127.0.0.1:{served.port}/readyz").status_code == 200


def test_an_enrolment_that_exceeds_its_deadline_stores_nothing(gated: GatedSession, tmp_path: Path) -> None:
    with running(sharing_models(gated), tmp_path) as served:
        address = f"http://127.0.0.1:{served.port}/v1/galleries"
        httpx.post(address, json={"gallery": "g"}).raise_for_status()
        templates = f"{address}/g/subjects/ann/templates"
        files = {"images": faces_png(1)}
        late = httpx.post(templates, files=files, headers={"X-Request-Timeout-Ms": "200"})
        assert late.status_code == 504
        gated.gate.set()
        until(lambda: served.backend.admission._inside.total() == 0)
        assert httpx.get(f"{address}/g").json()["template_count"] == 0
        assert httpx.post(templates, files=files).json()["items"][0]["status"] == "enrolled"


LINES = "application/x-ndjson"


def probe_line(line_id: str, faces: int = 1) -> bytes:
    return orjson.dumps({"id": line_id, "image": base64.b64encode(faces_png(faces)).decode()}) + b"\n"


def test_a_late_group_fails_alone_and_its_lines_keep_their_ids(gated: GatedSession, tmp_path: Path) -> None:
    """The engine is held during the first group of lines."""
    content, last = b"".join(probe_line(f"line {number}") for number in range(4)), probe_line("last")
    with running(sharing_models(gated), tmp_path) as served:
        httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        head = (
            f"POST /v1/identify?gallery=g HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nConnection: close\r\n"
        )
        head += f"X-Request-Timeout-Ms: 300\r\nContent-Length: {len(content) + len(last)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as stream:
            stream.sendall(head.encode() + content)
            received = stream.makefile("rb")
            late = read_answers(received, 4)
            gated.gate.set()
            stream.sendall(last)
            (answered,) = read_answers(received, 1)
    assert [line["id"] for line in late] == [f"line {number}" for number in range(4)]
    assert {line["problem"]["code"] for line in late} == {"deadline_exceeded"}
    assert (answered["id"], answered["status"]) == ("last", "ok")


def read_answers(received: BinaryIO, count: int) -> list[dict[str, Any]]:
    """Read lines of a chunked response that are JSON objects."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = received.readline()
        assert line
        if line.startswith(b"{"):
            found.append(orjson.loads(line))
    return found


def test_the_unfinished_lines_of_streams_are_in_the_memory_budget(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    limits = {"buffered_bytes": 100_000, "max_bytes": 100_000}
    with running(sharing_models(gated), tmp_path, **limits) as served, ExitStack() as open_:
        address = f"http://127.0.0.1:{served.port}/v1"
        httpx.post(f"{address}/galleries", json={"gallery": "g"}).raise_for_status()
        free = served.backend.bodies._left
        for path in ("identify?gallery=g", "galleries/g/templates", "galleries/g/import"):
            stream = open_.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            head = (
                f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nContent-Length: 90000\r\n\r\n"
            )
            stream.sendall(head.encode() + b'{"id": "' + b"x" * 30_000)
        until(lambda: served.backend.bodies._left < free - 90_000)
        assert httpx.post(f"{address}/embed", content=b"x" * 20_000).status_code == 429
        open_.close()
        until(lambda: served.backend.bodies._left == free)
        assert httpx.post(f"{address}/embed", content=b"x" * 20_000).status_code == 415


@pytest.mark.parametrize("path", ["identify?gallery=g", "galleries/g/templates", "galleries/g/import"])
def test_a_line_that_does_not_arrive_in_time_ends_the_stream(gated: GatedSession, tmp_path: Path, path: str) -> None:
    gated.gate.set()
    with running(sharing_models(gated), tmp_path, timeout_s=0.3) as served:
        httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        free = served.backend.bodies._left
        complete = (b'{"id": "a"}\n{', 200) if "import" not in path else (b'{"format": "vultus-templates/2"', 408)
        for begun, status in ((b"", 408), (b"{", 408), complete):
            with unfinished(served.port, f"/v1/{path}", LINES, begun) as stream:
                received = stream.makefile("rb")
                assert received.readline().startswith(b"HTTP/1.1 %d" % status)
                assert any(b"body_too_slow" in line for line in iter(received.readline, b""))
        until(lambda: served.backend.bodies._left == free)


CHUNKED = f"HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@pytest.mark.parametrize("path", ["identify?gallery=g", "galleries/g/templates", "galleries/g/import"])
def test_blank_lines_do_not_renew_the_time_limit_of_a_line(gated: GatedSession, tmp_path: Path, path: str) -> None:
    with running(sharing_models(gated), tmp_path, timeout_s=0.4) as served:
        httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        with socket.create_connection(("127.0.0.1", served.port), timeout=0.1) as stream:
            stream.sendall(f"POST /v1/{path} {CHUNKED}".encode())
            begun = time.monotonic()
            while time.monotonic() - begun < 2:
                stream.sendall(chunk(b"\n"))
                with suppress(TimeoutError):
                    answer = stream.recv(4096)
                    break
            else:
                pytest.fail("the stream did not end")
        assert answer.startswith(b"HTTP/1.1 408")


def test_the_lines_of_a_slow_import_are_stored_and_leave_the_memory(
    gated: GatedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_full_groups, "__defaults__", (0.1,))
    models = sharing_models(gated)
    with running(models, tmp_path, timeout_s=5) as served:
        gallery = f"http://127.0.0.1:{served.port}/v1/galleries"
        httpx.post(gallery, json={"gallery": "g"}).raise_for_status()
        free = served.backend.bodies._left
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as stream:
            stream.sendall(f"POST /v1/galleries/g/import {CHUNKED}".encode())
            for name in ("ann", "ben"):
                stream.sendall(chunk(orjson.dumps({"subject": name, "contract_id": models.contract_id}) + b"\n"))
                until(lambda: served.backend.bodies._left < free)
                until(lambda: served.backend.bodies._left == free)
            assert httpx.get(f"{gallery}/g").json()["subject_count"] == 2
            stream.sendall(chunk(b""))
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")


def test_streams_leave_memory_to_requests(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    limits = {"buffered_bytes": 100_000, "max_bytes": 50_000}
    with running(sharing_models(gated), tmp_path, **limits) as served, ExitStack() as open_:
        address = f"http://127.0.0.1:{served.port}/v1"
        httpx.post(f"{address}/galleries", json={"gallery": "g"}).raise_for_status()
        streams = []
        for _ in range(3):
            stream = open_.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            stream.sendall(f"POST /v1/galleries/g/import {CHUNKED}".encode() + chunk(b"x" * 20_000))
            streams.append(stream)
        until(lambda: len(served.server.server_state.tasks) == 2)
        ready, _, _ = select.select(streams, [], [], 10)
        answer = ready[0].recv(4096)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"their share of the memory budget" in answer
        assert httpx.post(f"{address}/embed", content=b"x" * 45_000).status_code == 415  # read, and not an image


def test_streams_that_wait_end_when_the_service_stops(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    with ExitStack() as open_:
        with running(sharing_models(gated), tmp_path, shutdown_s=20) as served:
            httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
            paths = ("identify?gallery=g", "galleries/g/templates", "galleries/g/import")
            streams = [
                open_.enter_context(unfinished(served.port, f"/v1/{path}", LINES, probe_line("a") if at < 2 else b""))
                for at, path in enumerate(paths)
            ]
            for stream in streams[:2]:
                assert stream.recv(4096).startswith(b"HTTP/1.1 200")
            until(lambda: len(served.server.server_state.tasks) == 3)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        for stream in streams:
            assert b"engine_stopped" in stream.makefile("rb").read()


def test_streams_leave_workers_to_requests(gated: GatedSession, tmp_path: Path) -> None:
    """Of four workers, streams hold two; a request is admitted, however many streams wait."""
    with running(sharing_models(gated), tmp_path, concurrency=4, waiting=1) as served, ExitStack() as open_:
        httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        streams = [
            open_.enter_context(unfinished(served.port, "/v1/identify?gallery=g", LINES, probe_line(str(number))))
            for number in range(6)
        ]
        until(lambda: served.backend.stream_workers.statistics().tasks_waiting == 4)
        assert served.backend.admission._inside.total() == 2
        gated.gate.set()
        assert embed(served.port).status_code == 200
        for stream in streams:
            assert read_answers(stream.makefile("rb"), 1)[0]["status"] == "ok"


EXPECTING = b"Host: localhost\r\nExpect: 100-continue\r\n"


def test_a_refused_client_that_expects_100_continue_must_close(gated: GatedSession, tmp_path: Path) -> None:
    with running(sharing_models(gated), tmp_path, concurrency=1, waiting=0) as served:
        assert embed(served.port, headers={"X-Request-Timeout-Ms": "100"}).status_code == 504
        for path, length, status in (
            (b"embed", 9, 429),
            (b"galleries", 2**30, 413),
            (b"nothing", 9, 404),
            (b"info", 9, 405),
            (b"galleries/g/import", 9, 415),
        ):
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as asking:
                asking.sendall(b"POST /v1/%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (path, EXPECTING, length))
                answer = asking.makefile("rb").read().lower()  # until the service closes
            assert answer.startswith(b"http/1.1 %d" % status)
            assert b"connection: close" in answer


def test_a_stream_asks_for_its_body_before_it_answers(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    line = orjson.dumps({"image": base64.b64encode(faces_png(1)).decode()}) + b"\n"
    with running(sharing_models(gated), tmp_path) as served:
        httpx.post(f"http://127.0.0.1:{served.port}/v1/galleries", json={"gallery": "g"}).raise_for_status()
        head = b"POST /v1/identify?gallery=g HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"
        with socket.create_connection(("127.0.0.1", served.port)) as asking:
            received = asking.makefile("rb")
            asking.sendall(head + EXPECTING + b"Content-Length: %d\r\n\r\n" % (2 * len(line)))
            assert received.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert received.readline() == b"\r\n"
            asking.sendall(line)
            assert received.readline() == b"HTTP/1.1 200 OK\r\n"
            asking.sendall(line)
            assert received.read().count(b'"ok"') == 2


def test_an_import_that_offers_an_upgrade_is_stored(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    with running(sharing_models(gated), tmp_path) as served:
        galleries = f"http://127.0.0.1:{served.port}/v1/galleries"
        for name in ("g", "h"):
            httpx.post(galleries, json={"gallery": name}).raise_for_status()
        httpx.post(f"{galleries}/g/subjects/ann/templates", files={"images": faces_png(1)}).raise_for_status()
        lines = httpx.get(f"{galleries}/g/export").content
        offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
        with httpx.Client(headers={**offer, "Content-Type": "application/x-ndjson"}) as client:
            assert client.post(f"{galleries}/h/import", content=lines).json()["enrolled"] == 1
            assert client.post(f"{galleries}/h/import", content=iter([lines])).json()["duplicates"] == 1


def test_of_uploads_that_start_together_only_as_many_are_read_as_there_are_places(
    gated: GatedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("service.app.Admission", lambda all_, pressed: Admission(all_, pressed, lambda: now))
    photo = faces_png(1)
    head = b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nConnection: close\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(photo)
    with running(sharing_models(gated), tmp_path, concurrency=1, waiting=1) as served, ExitStack() as open_:

        def begin() -> socket.socket:
            upload = open_.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            upload.sendall(head + photo[:10])
            return upload

        admission = served.backend.admission
        admitted = [begin(), begin()]
        until(lambda: len(admission._arriving) == 2)
        assert begin().recv(4096).startswith(b"HTTP/1.1 429")
        now = 0.3  # the two are slow: they occupy no place any more
        admitted += [begin(), begin()]
        until(lambda: len(admission._arriving) == 2)
        for upload in admitted[2:]:  # and need one only when they are complete
            upload.sendall(photo[10:])
        until(lambda: admission._inside.total() == 2)
        admitted[0].sendall(photo[10:])
        assert admitted[0].recv(4096).startswith(b"HTTP/1.1 429")
        gated.gate.set()
        for upload in admitted[2:]:
            assert upload.recv(4096).startswith(b"HTTP/1.1 200")
        admitted[1].sendall(photo[10:])
        assert admitted[1].recv(4096).startswith(b"HTTP/1.1 200")


class Slow(GatedSession):
    """A session that needs a tenth of a second for a run."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        time.sleep(0.1)
        return super().run(images, deadline)


def test_a_service_whose_engine_ends_runs_is_ready_and_one_that_is_stuck_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe waits behind two runs of each of five requests, longer than it may take."""
    for module in ("service.api.backend", "service.api.routes.health"):
        monkeypatch.setattr(f"{module}.PROBE_S", 0.5)
    slow = Slow(fake_embedding)
    with running(sharing_models(slow), tmp_path, concurrency=6) as served, ThreadPoolExecutor(5) as clients:
        slow.gate.set()
        long = [clients.submit(embed, served.port, 40) for _ in range(5)]
        until(lambda: len(served.queue) > 7)
        ready = f"http://127.0.0.1:{served.port}/readyz"
        assert httpx.get(ready).status_code == 200
        assert len(served.queue) > 1, "the probe was not answered by its own run"
        slow.gate.clear()
        time.sleep(0.2)  # until the run that had passed the gate has ended
        stuck = httpx.get(ready)
        assert (stuck.status_code, stuck.json()["code"]) == (503, "not_ready")
        slow.gate.set()
        assert [answer.result().status_code for answer in long] == [200] * 5
        assert httpx.get(ready).status_code == 200


class BreaksOn(GatedSession):
    """A session that dies when a batch has five faces."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        answer = super().run(images, deadline)
        if len(images) == 5:
            raise SystemError("the engine is broken")
        return answer


def test_a_worker_that_dies_fails_its_own_request_and_readiness(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BreaksOn(fake_embedding)
    broken.gate.set()
    with running(sharing_models(broken, lanes=2), tmp_path) as served:
        assert httpx.get(f"http://127.0.0.1:{served.port}/readyz").status_code == 200
        lost = embed(served.port, faces=5)
        assert (lost.status_code, lost.json()["code"]) == (500, "inference_failed")
        assert "SystemError: the engine is broken" in caplog.text  # for the operator
        assert embed(served.port, faces=2).status_code == 200
        for probe in ("readyz", "livez"):
            unready = httpx.get(f"http://127.0.0.1:{served.port}/{probe}")
            assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
        assert embed(served.port, faces=5).status_code == 500
        assert embed(served.port, faces=2).json()["code"] == "engine_stopped"


def test_connections_that_send_no_body_take_no_place(gated: GatedSession, tmp_path: Path) -> None:
    gated.gate.set()
    with running(sharing_models(gated), tmp_path, concurrency=1, waiting=1) as served, ExitStack() as open_:
        for _ in range(3):
            open_.enter_context(unfinished(served.port, "/v1/embed", "image/png", begun=b""))
        until(lambda: len(served.server.server_state.tasks) == 3)
        assert embed(served.port).status_code == 200


def test_a_body_is_counted_once_and_for_a_short_time() -> None:
    now = 0.0
    admission = Admission(1, 1, lambda: now)
    with admission.arrival() as first, admission.arrival() as second:
        admission.begin(first)
        with pytest.raises(Overloaded):
            admission.begin(second)
        now = 2.0
        admission.begin(second)
        admission.begin(first)
        assert list(admission._arriving) == [second]


def test_admission_says_when_to_retry() -> None:
    now = 0.0
    admission = Admission(3, 3, lambda: now)
    with admission.place(), admission.place():
        for _ in range(60):
            with admission.place():
                now += 2.0
        with admission.place(), pytest.raises(Overloaded) as refused:
            admission.require_room()
    assert refused.value.retry_after_s == 6  # three requests, of which one is answered every two seconds
    now += 2
    with admission.place(), admission.place(), admission.place():
        with pytest.raises(Overloaded), admission.place():  # free at the check, taken at the entry
            pass
        with admission.place(admitted=True):
            assert admission._inside.total() == 4
    admission.require_room()


def test_a_refusal_shortens_the_queue_until_the_overload_ends() -> None:
    now = 0.0
    admission = Admission(4, 2, lambda: now)
    with ExitStack() as inside:
        for _ in range(4):  # all places can be taken while no request is refused
            inside.enter_context(admission.place())
        with pytest.raises(Overloaded):
            admission.require_room()
    now += 0.9
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(admission.place())
        with pytest.raises(Overloaded):  # this refusal prolongs the overload
            admission.require_room()
        now += 0.9
        with pytest.raises(Overloaded):
            admission.require_room()
        now += 1.1
        for _ in range(2):
            inside.enter_context(admission.place())


def test_settings_scale_with_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings.usable_cores", lambda: 5)
    assert (RequestSettings().workers, RequestSettings().places) == (10, 40)
    assert RequestSettings(concurrency=3, waiting=0).places == 3
    assert RequestSettings(concurrency=3, waiting=7).overload_places == 10  # an explicit setting is not reduced
    assert RequestSettings(concurrency=4).overload_places == 5
    assert BatchingSettings().largest is None
