"""Traces of the real service, received by a server of OTLP over HTTP that decodes them with the official messages."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from models import extras
from models.errors import ExtraMissing
from service.api.observation import ObservationMiddleware
from service.settings import Settings, TraceSettings
from service.tracing.tracer import Tracer
from tests.otlp import Receiver
from tests.service.test_end_to_end import client_of, own_galleries, serving

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[tuple[list[Any], list[httpx2.Response]]]:
    """The spans of a service, which has answered some requests and ended, and the answers."""
    environment = own_galleries(tmp_path_factory.mktemp("galleries"))
    photo = (photos / "astronaut.png").read_bytes()
    with Receiver().running() as receiver:
        with serving({**environment, "VULTUS_TRACE__ENDPOINT": receiver.address}) as server, client_of(server) as http:
            pair = {"probe": photo, "reference": (photos / "group.jpg").read_bytes()}
            answers = [
                http.post("/v1/verify", files=pair, data={"faces": "largest"}, headers={"traceparent": PARENT}),
                http.get("/v1/galleries/family/subjects/ada%20lovelace"),
                http.post("/v1/detect", content=b"x", headers={"Content-Type": "image/png"}),
                http.request("PROPFIND", "/v1/info"),
            ]

            def embed(_: int) -> httpx2.Response:
                return http.post("/v1/embed?faces=largest", content=photo, headers={"Content-Type": "image/png"})

            with ThreadPoolExecutor(16) as pool:
                answers += pool.map(embed, range(64))
        assert receiver.services == {"vultus"}
        yield receiver.spans, answers


def test_a_request_continues_the_trace_of_its_client(traced: tuple[list[Any], list[httpx2.Response]]) -> None:
    spans, (verified, *_) = traced
    _, trace_id, span_id, _ = PARENT.split("-")
    (root,) = [span for span in spans if span.parent_span_id.hex() == span_id]
    assert root.trace_id.hex() == trace_id
    assert verified.headers["traceresponse"] == f"00-{trace_id}-{root.span_id.hex()}-01"
    assert root.name == "POST /v1/verify"
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.route": "/v1/verify",
        "url.path": "/v1/verify",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "vultus.request_id": verified.headers["X-Request-Id"],
    }
    stages = [span for span in spans if span.parent_span_id == root.span_id]
    assert {"decode", "detect", "embed"} <= {span.name for span in stages}
    slack_ns = 1_000_000  # a stage ends before its end is noted
    for stage in stages:
        assert root.start_time_unix_nano - slack_ns <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= root.end_time_unix_nano


def test_a_shared_run_links_to_the_requests_that_it_served(traced: tuple[list[Any], list[httpx2.Response]]) -> None:
    spans, _ = traced
    runs = [span for span in spans if span.name == "run recognizer"]
    assert runs, "16 clients at once share no run"
    requests = {span.span_id for span in spans if span.name == "POST /v1/embed"}
    for run in runs:
        assert not run.parent_span_id
        assert attributes(run)["vultus.requests"] > 1
        assert len(run.links) == attributes(run)["vultus.requests"] == attributes(run)["vultus.batch_size"]
        assert {link.span_id for link in run.links} <= requests


def test_errors_are_named_and_nothing_is_personal(traced: tuple[list[Any], list[httpx2.Response]]) -> None:
    spans, (_, unknown, refused, other, *_) = traced
    assert (unknown.status_code, refused.status_code) == (404, 415)
    (span,) = [span for span in spans if attributes(span).get("http.response.status_code") == 404]
    assert span.name == "GET /v1/galleries/{gallery}/subjects/{subject}"
    assert attributes(span)["error.type"] == "gallery_unknown"
    assert other.status_code == 405
    assert "_OTHER" in {attributes(each).get("http.request.method") for each in spans}
    everything = " ".join(f"{span.name} {attributes(span)}" for span in spans).lower()
    assert not re.search(r"lovelace|family|127\.0\.0\.1", everything)


def test_probes_are_not_traced(traced: tuple[list[Any], list[httpx2.Response]]) -> None:
    spans, _ = traced
    assert not [span for span in spans if "readyz" in str(span)]


def test_requests_are_answered_without_a_receiver(tmp_path: Path) -> None:
    environment = {**own_galleries(tmp_path), "VULTUS_TRACE__ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    with serving(environment) as server, client_of(server) as http:
        began = time.monotonic()
        assert http.get("/v1/galleries").status_code == 200
        assert time.monotonic() - began < 1


def test_a_share_of_the_requests_is_traced() -> None:
    assert Settings().trace.endpoint is None
    tracer = Tracer(TraceSettings(endpoint="http://127.0.0.1:9/v1/traces", share=0))
    assert not tracer.begin({}).is_sampled
    assert tracer.begin({"traceparent": PARENT}).is_sampled
    tracer._provider.shutdown()


def test_a_missing_extra_has_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if "opentelemetry" in name else object())
    with pytest.raises(ExtraMissing, match="tracing"):
        Tracer(TraceSettings(endpoint="http://127.0.0.1:9/v1/traces"))


def test_a_receiver_that_hangs_does_not_keep_the_service_from_ending() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracer = Tracer(TraceSettings(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"))
        tracer.begin({}).end("GET", "/v1/info", "http", 200, None, "a")
        began = time.monotonic()
        tracer.close()
        assert time.monotonic() - began < 5


def test_a_fault_of_the_program_is_an_error_of_its_span() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(TraceSettings(endpoint="http://127.0.0.1:9/v1/traces"), exporter)

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    scope = {
        "type": "http",
        "path": "/",
        "method": "GET",
        "scheme": "http",
        "headers": [],
        "state": {"request_id": "a"},
    }
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ObservationMiddleware(fail, [], tracer)(scope, fail, fail))  # type: ignore[arg-type]
    tracer.close()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (500, "internal_error")
