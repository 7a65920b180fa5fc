"""Metrics count what requests did, with bounded labels and nothing of people."""

import json
import urllib.request
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.serving.models import Models
from service.audit.records import Event, Outcome
from service.gallery.galleries import Galleries
from service.metrics.instruments import Metrics
from service.metrics.port import metrics_port
from service.settings import RequestSettings, Settings, SettingsInvalid
from tests.client import Guarded, guarded_client
from tests.pictures import faces_png
from tests.service.test_end_to_end import free_port

NAME = "planted-name"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(guarded: Guarded, headers: dict[str, str]) -> Samples:
    response = guarded.client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return samples(response.text)


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def total(found: Samples, name: str, **labels: str) -> float:
    """Return the sum over the series of a name that have some labels."""
    return sum(number for (each, having), number in found.items() if each == name and labels.items() <= set(having))


def test_requests_decisions_and_templates_are_counted_without_names(guarded: Guarded, fake_models: Models) -> None:
    admin, scraper = guarded.key("admin", name="admin"), guarded.key("metrics", name="prometheus")

    def send(method: str, url: str, **options: Any) -> Any:
        return guarded.client.request(method, url, headers={**admin, **options.pop("headers", {})}, **options)

    send("POST", "/v1/galleries", json={"gallery": f"gallery-{NAME}"})
    url = f"/v1/galleries/gallery-{NAME}/subjects/{NAME}"
    send("POST", f"{url}/templates", files={"images": faces_png(1)})
    for seed in (0, 0, 5):
        send("POST", "/v1/verify", files={"probe": faces_png(1), "reference": faces_png(1, seed)})
    send("POST", "/v1/identify", files={"images": faces_png(1)}, data={"gallery": f"gallery-{NAME}"})
    line = json.dumps({"image": "AAAA"}) + "\n"
    lines = {"Content-Type": "application/x-ndjson"}
    send("POST", f"/v1/identify?gallery=gallery-{NAME}", content=line, headers=lines)
    send("GET", f"/v1/galleries/gallery-{NAME}/no/such/path/{NAME}")
    guarded.client.get("/v1/info")
    for word in ("PROPFIND", "PLANTED"):
        send(word, "/v1/info")
    send("DELETE", url)

    found = scraped(guarded, scraper)
    request = {"http_request_method": "POST", "http_route": "/v1/verify", "http_response_status_code": "200"}
    assert value(found, "http_server_request_duration_seconds_count", **request) == 3
    assert total(found, "http_server_request_duration_seconds_count", http_response_status_code="401") == 1
    assert total(found, "http_server_request_duration_seconds_count", http_request_method="_OTHER") == 2
    assert not [labels for _, labels in found if ("http_request_method", "PLANTED") in labels]
    without_route = {"http_route": "", "http_request_method": "GET"}
    assert total(found, "http_server_request_duration_seconds_count", **without_route) == 2  # no such path, and no key
    assert value(found, "vultus_stage_duration_seconds_count", stage="embed") >= 5
    assert value(found, "vultus_stage_duration_seconds_count", stage="store") == 1
    assert value(found, "vultus_stage_duration_seconds_count", stage="search") >= 1
    point = fake_models.operating_point(None)
    assert point is not None
    decided = {"action": "verify", "operating_point": point.name}
    assert total(found, "vultus_decisions_total", **decided) == 3
    assert value(found, "vultus_similarity_count", action="verify") == 3
    assert value(found, "vultus_comparisons_total", action="verify") == 3
    assert value(found, "vultus_comparisons_total", action="identify") == 1
    assert value(found, "vultus_templates_changed_total", action="enrol") == 1
    assert value(found, "vultus_templates_changed_total", action="erase_subject") == 1
    assert value(found, "vultus_galleries") == 1
    assert value(found, "vultus_templates", index="flat") == 0
    assert value(found, "vultus_admission_places") == Settings().request.places
    assert value(found, "vultus_requests_admitted") == value(found, "vultus_queue_length") == 0
    assert value(found, "vultus_audit_stopped") == 0
    assert value(found, "vultus_threshold", operating_point=point.name) == point.threshold
    assert total(found, "vultus_build_info") == 1
    assert total(found, "vultus_model_info") == 2

    text = guarded.client.get("/metrics", headers=scraper).text
    ids = [key.id for key in guarded.keys.list_all()]
    assert not [word for word in (NAME, *ids) if word in text]


def test_refusals_are_counted_by_their_code(fake_models: Models, galleries: Galleries, tmp_path: Any) -> None:
    settings = Settings(request=RequestSettings(concurrency=1, waiting=0))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        slow, scraper = guarded.key("verify", name="slow", rate="1/min"), guarded.key("metrics", name="scraper")
        sides = {"probe": faces_png(1), "reference": faces_png(1)}
        answers = [guarded.client.post("/v1/verify", headers=slow, files=sides).status_code for _ in range(3)]
        assert answers == [200, 429, 429]
        found = scraped(guarded, scraper)
        assert value(found, "vultus_requests_refused_total", code="rate_exceeded") == 2


def test_the_metrics_need_their_scope(guarded: Guarded) -> None:
    assert guarded.client.get("/metrics").status_code == 401
    assert guarded.client.get("/metrics", headers=guarded.key("verify")).status_code == 403


def test_the_port_of_its_own_needs_no_key() -> None:
    metrics, port = Metrics(), free_port()
    metrics.count_events([Event("verify", outcomes=[Outcome("match", 0.5)], operating_point="fmr_1e-4")])
    with metrics_port(metrics.registry, "127.0.0.1", port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            found = samples(response.read().decode())
        with (
            pytest.raises(SettingsInvalid, match="cannot be opened"),
            metrics_port(metrics.registry, "127.0.0.1", port),
        ):
            pass
    labels = {"action": "verify", "operating_point": "fmr_1e-4", "decision": "match"}
    assert value(found, "vultus_decisions_total", **labels) == 1
    with pytest.raises(OSError):  # refused or reset
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1)


def test_similarities_near_the_thresholds_are_counted_beside_what_the_calibration_saw(
    guarded: Guarded, fake_models: Models
) -> None:
    assert fake_models.calibration is not None
    thresholds = sorted(point.threshold for point in fake_models.calibration.points)
    metrics = Metrics()
    similarities = [-0.1, thresholds[0], (thresholds[0] + thresholds[-1]) / 2, thresholds[-1], 0.9]
    events = [Event("verify", outcomes=[Outcome("match", similarity)]) for similarity in similarities]
    metrics.count_events(events)  # of a model that is not calibrated
    metrics.expect_similarities(fake_models.calibration)
    metrics.count_events([*events, Event("identify", outcomes=[Outcome("match", thresholds[0])])])
    found = samples(generate_latest(metrics.registry).decode())
    assert value(found, "vultus_verifications_total") == len(similarities)
    assert value(found, "vultus_verifications_between_thresholds_total") == 2
    first, last = fake_models.calibration.points[0], fake_models.calibration.points[-1]
    assert (first.threshold, last.threshold) == (thresholds[0], thresholds[-1])
    shown = value(scraped(guarded, guarded.key("metrics")), "vultus_calibrated_share_between_thresholds")
    assert shown == pytest.approx(max(first.rate - last.rate, last.fnmr - first.fnmr))


def test_a_fault_of_the_program_is_counted(
    guarded: Guarded, fake_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers it outside of all middleware."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fake_models.pipeline, "detect", fail)
    photo = {"files": {"images": faces_png(1)}, "headers": guarded.key("detect")}
    with pytest.raises(ZeroDivisionError):  # the client of the tests raises what the server logs
        guarded.client.post("/v1/detect", **photo)  # type: ignore[arg-type]
    found = scraped(guarded, guarded.key("metrics", name="b"))
    labels = {"http_route": "/v1/detect", "http_response_status_code": "500"}
    assert total(found, "http_server_request_duration_seconds_count", **labels) == 1
