"""Requests that SDKs repeat with the same token: they get the first answer, and cost little memory."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from models.deadline import Deadline
from models.errors import StorageFailed
from service.compat.rekognition import users
from service.compat.rekognition.repetitions import LIFETIME_S, Attempt, FirstInProgress, Repetitions
from service.errors import RepetitionDiffers
from service.gallery.administration import create_subject
from tests.client import Guarded
from tests.service.compat.rekognition.conftest import Caller, refused, rekognition_key

ANN = {"CollectionId": "staff", "UserId": "ann", "ClientRequestToken": "t-1"}


def _begin(attempt: Attempt, token: str = "t", body: bytes = b"{}", collection: int = 1) -> bytes | None:
    return attempt.begin(token, [body], collection, Deadline(1))


def _answered(repetitions: Repetitions, client: str, token: str, answer: bytes) -> bytes | None:
    """Answer a request, and return the earlier answer that it gets instead, if any."""
    with repetitions.attempt(client, "CreateUser") as attempt:
        earlier = _begin(attempt, token)
        if earlier is None:
            attempt.keep(answer)
        return earlier


def test_requests_repeated_at_once_get_the_answer_of_the_first(staff: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[str] = []

    def create_slowly(galleries: Any, gallery: str, name: str, **options: Any) -> Any:
        created.append(name)
        time.sleep(0.3)
        return create_subject(galleries, gallery, name, **options)

    monkeypatch.setattr(users, "create_subject", create_slowly)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: staff("CreateUser", **ANN), range(6)))
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {})] * 6
    assert created == ["ann"]
    differing = staff("CreateUser", **(ANN | {"UserId": "bob"}))
    refused(differing, "IdempotentParameterMismatchException")


def test_a_repetition_is_the_first_if_the_first_fails(staff: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [StorageFailed("no space is left")]

    def fail_once(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.2)
        if failures:
            raise failures.pop()
        return create_subject(*arguments, **options)

    monkeypatch.setattr(users, "create_subject", fail_once)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: staff("CreateUser", **ANN).status_code, range(4)))
    assert sorted(answers) == [200, 200, 200, 500]


def test_a_repetition_waits_no_longer_than_its_deadline(staff: Caller, monkeypatch: pytest.MonkeyPatch) -> None:

    def create_slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(1.5)
        return create_subject(*arguments, **options)

    monkeypatch.setattr(users, "create_subject", create_slowly)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(staff, "CreateUser", **ANN)
        time.sleep(0.3)
        begun = time.monotonic()
        late = staff.send("CreateUser", json.dumps(ANN).encode(), X_Request_Timeout_Ms="300")
        assert time.monotonic() - begun < 1
        assert (late.status_code, late.json()["__type"]) == (500, "InternalServerError")
        assert first.result().status_code == 200


def test_a_repetition_does_not_outlive_its_collection(staff: Caller) -> None:
    assert staff.ok("CreateUser", **ANN) == {}
    staff.ok("DeleteCollection", CollectionId="staff")
    refused(staff("CreateUser", **ANN), "ResourceNotFoundException")
    staff.ok("CreateCollection", CollectionId="staff")
    for _ in range(2):
        assert staff.ok("CreateUser", **ANN) == {}
        assert [user["UserId"] for user in staff.ok("ListUsers", CollectionId="staff")["Users"]] == ["ann"]


def test_the_token_of_one_key_means_nothing_for_another(guarded: Guarded, staff: Caller) -> None:
    other = Caller(guarded.client, rekognition_key(guarded.keys, name="other"))
    assert staff.ok("CreateUser", **ANN) == {}
    refused(other("CreateUser", **ANN), "ConflictException")


def test_bodies_are_not_kept(staff: Caller) -> None:
    for number in range(3):
        members = {"UserId": f"u{number}", "ClientRequestToken": f"t-{number}", "Junk": "x" * 2**20}
        staff.ok("CreateUser", CollectionId="staff", **members)
    app: Any = staff.client.app
    assert 0 < app.state.repetitions.size < 3000


def test_answers_of_one_key_are_bounded_and_push_out_no_others() -> None:
    repetitions = Repetitions(max_bytes=40_000, max_client_bytes=20_000)
    assert _answered(repetitions, "modest", "t", b"first") is None
    for number in range(200):
        _answered(repetitions, "greedy", f"t{number}", b"x" * 1000)
        _answered(repetitions, "greedy too", f"t{number}", b"x" * 1000)
        assert repetitions.size <= 40_000
    assert _answered(repetitions, "modest", "t", b"second") == b"first"
    assert _answered(repetitions, "greedy", "t199", b"second") == b"x" * 1000
    assert _answered(repetitions, "greedy", "t0", b"second") is None
    assert _answered(repetitions, "greedy", "huge", b"x" * 20_000) is None
    assert _answered(repetitions, "greedy", "huge", b"x" * 20_000) is None


def test_answers_are_kept_for_some_minutes() -> None:
    now = 0.0
    repetitions = Repetitions(clock=lambda: now)
    assert _answered(repetitions, "a", "t", b"first") is None
    now = LIFETIME_S - 1
    assert _answered(repetitions, "a", "t", b"second") == b"first"
    now = LIFETIME_S + 1
    assert _answered(repetitions, "a", "t", b"second") is None
    assert _answered(repetitions, "a", "t", b"third") == b"second"


def _differs(begin: Callable[[], object]) -> None:
    with pytest.raises(RepetitionDiffers):
        begin()


def test_a_repetition_of_a_request_in_progress_waits_and_another_request_differs() -> None:
    repetitions = Repetitions()
    with repetitions.attempt("a", "CreateUser") as first:
        assert _begin(first) is None
        with repetitions.attempt("a", "CreateUser") as second:
            with pytest.raises(FirstInProgress) as waiting:
                _begin(second)
            _differs(lambda: _begin(second, body=b"[]"))
        with repetitions.attempt("a", "DeleteUser") as other:
            assert _begin(other) is None
        assert not waiting.value.ended.is_set()
        with repetitions.attempt("a", "CreateUser") as third, pytest.raises(FirstInProgress):
            _begin(third)  # the end of the second is not that of the first
    assert waiting.value.ended.is_set()
    assert _begin(first) is None  # a thread that outlives its request
    assert _answered(repetitions, "a", "t", b"x") is None
