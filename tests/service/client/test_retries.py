"""Repetitions, time limits and broken connections, against a real server that behaves badly."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.client import AsyncClient, Client, NoAnswer, OutOfTime, VultusProblem
from service.client.exchange import retry_after
from tests.service.client.faults import CUT, SILENT, TRICKLING, answering, problem, response
from tests.service.test_end_to_end import free_port

BUSY = problem(429, "overloaded", Retry_After="0")
DETECTED = b'{"items": [{"status": "ok", "faces": []}]}'
RECEIPT = (
    b'{"erasure": 1, "what": "subject", "subject_count": 1, "template_count": 1, "crop_count": 0, '
    b'"erased": "2026-01-01T00:00:00Z", "log_cut": true}'
)


def test_a_refused_request_is_sent_again_after_the_stated_time() -> None:
    with answering(BUSY, problem(503, "not_ready", Retry_After="1"), response(200, DETECTED)) as server:
        begun = time.monotonic()
        with Client(server.url, trust_env=False) as client:
            assert client.detect(b"photo").items[0].status == "ok"
        assert 1 <= time.monotonic() - begun < 3
    assert len(server.heads) == 3
    left_ms = [int(server.header(position, "X-Request-Timeout-Ms")) for position in range(3)]
    assert 58_000 < left_ms[0] <= 60_000
    assert left_ms[2] < left_ms[0] - 1000, "the service learns what is left of the time limit"


def test_what_changes_is_sent_again_only_if_the_service_did_nothing() -> None:
    with answering(BUSY, BUSY, response(200, RECEIPT)) as server, Client(server.url, trust_env=False) as client:
        assert client.erase("g", "s").log_cut
    for reply in (CUT, problem(504, "deadline_exceeded"), response(502, b"<html>", "text/html")):
        with answering(reply, response(200, RECEIPT)) as server, Client(server.url, trust_env=False) as client:
            with pytest.raises((NoAnswer, VultusProblem)):
                client.erase("g", "s")
            assert len(server.heads) == 1


def test_a_repeatable_call_survives_a_cut_connection_and_a_gateway() -> None:
    replies = (CUT, response(502, b"<html>", "text/html"), problem(504, "deadline_exceeded"), response(200, DETECTED))
    with answering(*replies) as server, Client(server.url, trust_env=False) as client:
        assert client.detect(b"photo").items[0].faces == ()
    assert len(server.heads) == 4


def test_refusals_for_load_do_not_use_up_the_repetitions_of_lost_requests() -> None:
    with answering(*[BUSY] * 9, CUT, response(200, DETECTED)) as server, Client(server.url, trust_env=False) as client:
        assert client.detect(b"photo").items[0].status == "ok"
    assert len(server.heads) == 11


def test_a_call_that_is_refused_for_good_is_not_sent_again() -> None:
    with answering(problem(422, "no_face")) as server, Client(server.url, trust_env=False) as client:
        with pytest.raises(VultusProblem) as raised:
            client.detect(b"photo")
        assert raised.value.code == "no_face"
    assert len(server.heads) == 1


def test_the_time_limit_bounds_all_attempts() -> None:
    for reply in (SILENT, TRICKLING):
        begun = time.monotonic()
        with answering(reply) as server, Client(server.url, timeout=0.5, trust_env=False) as client:
            with pytest.raises(OutOfTime, match=r"0\.5 s"):
                client.detect(b"photo")
            assert time.monotonic() - begun < 2
    begun = time.monotonic()
    with answering(problem(429, "rate_exceeded", Retry_After="90")) as server:
        with Client(server.url, timeout=5, trust_env=False) as client, pytest.raises(VultusProblem) as raised:
            client.detect(b"photo")
        assert raised.value.code == "rate_exceeded", "not waited for: the time limit passes before"
    assert time.monotonic() - begun < 2


def test_an_address_where_nothing_listens_is_one_error() -> None:
    begun = time.monotonic()
    with (
        Client(f"http://127.0.0.1:{free_port()}", timeout=1.5, trust_env=False) as client,
        pytest.raises(NoAnswer, match="ConnectError"),
    ):
        client.info()
    assert time.monotonic() - begun < 2


def test_answers_of_something_else_are_one_error_and_redirects_are_not_followed() -> None:
    for reply, reason in (
        (response(200, b"<html>welcome</html>", "text/html"), "not the service"),
        (response(200, b"[1]"), "not the service"),
        (response(404, b"<html>", "text/html"), "status 404"),
        (response(307, b"", Location="http://elsewhere.example/?token=1"), "elsewhere.example/$"),
        (b"SSH-2.0-OpenSSH_9\r\n", "RemoteProtocolError"),
    ):
        with answering(reply) as server, Client(server.url, timeout=1, trust_env=False) as client:
            with pytest.raises(NoAnswer, match=reason):
                client.create_gallery("staff")
            assert len(server.heads) == 1


def test_a_window_of_a_stream_is_sent_again_and_its_end_is_the_error_of_the_stream() -> None:
    done = b'{"status": "enrolled", "template": 1}\n'
    described = b'"code": "engine_stopped", "status": 503, "detail": "", "title": "", "type": ""'
    stopped = b'{"status": "error", "problem": {%s}}\n' % described
    ndjson = "application/x-ndjson"
    entries = [("ann", b"1" * 70_000), ("bea", b"2" * 70_000)]
    replies = (CUT, response(200, stopped, ndjson), response(200, done, ndjson))
    with answering(*replies) as server, Client(server.url, trust_env=False) as client:
        outcomes = list(client.enrol_many("g", entries, at_once=1))
    assert [(subject, item.status) for (subject, _), item in outcomes] == [("ann", "enrolled"), ("bea", "enrolled")]
    assert len(server.heads) == 4
    with answering(response(200, stopped, ndjson)) as server, Client(server.url, timeout=1, trust_env=False) as client:
        with pytest.raises(VultusProblem) as raised:
            list(client.enrol_many("g", entries, at_once=1))
        assert raised.value.code == "engine_stopped"
    with (
        answering(response(200, b"", ndjson)) as server,
        Client(server.url, trust_env=False) as client,
        pytest.raises(NoAnswer, match="0 of 1 lines"),
    ):
        list(client.enrol_many("g", entries, at_once=1))


def test_a_stream_that_is_stopped_ends_the_pauses_of_its_windows() -> None:
    ok = b'{"status": "ok", "faces": []}\n'
    replies = (response(200, ok, "application/x-ndjson"), problem(429, "overloaded", Retry_After="30"))
    with answering(*replies) as server, Client(server.url, trust_env=False) as client:
        begun = time.monotonic()
        answers = client.identify_many([b"1" * 70_000] * 9, gallery="g", at_once=1)
        next(answers)
        answers.close()
        assert time.monotonic() - begun < 2


def test_the_asynchronous_client_repeats_and_limits_in_the_same_way() -> None:
    async def ask() -> None:
        with answering(BUSY, CUT, response(200, DETECTED)) as server:
            async with AsyncClient(server.url, trust_env=False) as client:
                assert (await client.detect(b"photo")).items[0].status == "ok"
        with answering(CUT, response(200, RECEIPT)) as server:
            async with AsyncClient(server.url, trust_env=False) as client:
                with pytest.raises(NoAnswer):
                    await client.erase("g", "s")
        begun = time.monotonic()
        with answering(SILENT) as server:
            async with AsyncClient(server.url, timeout=0.5, trust_env=False) as client:
                with pytest.raises(OutOfTime):
                    await client.detect(b"photo")
        assert time.monotonic() - begun < 2

    asyncio.run(ask())


def test_all_pages_of_a_list_are_read() -> None:
    page = (
        b'{"galleries": [{"gallery": "%s", "contract_id": "", "dimensions": 1, "index": "flat", "subject_count": 0, '
        b'"template_count": 0, "keep_crops": false, "min_quality": 0, "retain_days": 0, "metadata": {}, '
        b'"created": ""}], "next": %s}'
    )
    with answering(response(200, page % (b"a", b'"c u"')), response(200, page % (b"b", b"null"))) as server:
        with Client(server.url, trust_env=False) as client:
            assert [found.gallery for found in client.galleries()] == ["a", "b"]
        assert "cursor" not in server.heads[0]
        assert re.search(r"cursor=c(\+|%20)u", server.heads[1])


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("3") == 3
    assert retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) == pytest.approx(59, 2)
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)) == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None
