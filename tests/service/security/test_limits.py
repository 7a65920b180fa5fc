"""Limits of keys: requests in progress, and shares of the places of the service."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from service.api.admission import Admission
from service.errors import Overloaded, TooManyAtOnce
from service.security.keys.store import KeyRequest, KeyStore
from service.security.limits import KeyLimits


def test_a_key_has_so_many_requests_in_progress(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    bound, _ = keys.create(KeyRequest("a", ["verify"], concurrency=2))
    free, _ = keys.create(KeyRequest("b", ["verify"]))
    keys.close()
    limits = KeyLimits()
    with limits.in_progress(bound):
        with limits.in_progress(bound):
            with pytest.raises(TooManyAtOnce) as refused, limits.in_progress(bound):
                pass
            assert refused.value.retry_after_s == 1
            with ExitStack() as entered:
                for _ in range(100):
                    entered.enter_context(limits.in_progress(free))
        with pytest.raises(ZeroDivisionError), limits.in_progress(bound):
            raise ZeroDivisionError
        with limits.in_progress(bound):
            pass


def test_a_client_that_is_alone_may_fill_all_places() -> None:
    admission = Admission(4, 4)
    with ExitStack() as entered:
        for _ in range(4):
            entered.enter_context(_placed(admission, "greedy"))
        with pytest.raises(Overloaded):
            admission.require_room("greedy")


def test_a_client_below_its_share_is_admitted_beyond_all_places() -> None:
    admission = Admission(8, 8)
    with ExitStack() as entered:
        for _ in range(8):
            entered.enter_context(_placed(admission, "greedy"))
        for _ in range(4):
            entered.enter_context(_placed(admission, "modest"))
        for client in ("greedy", "modest"):
            with pytest.raises(Overloaded):
                admission.require_room(client)
        for _ in range(2):
            entered.enter_context(_placed(admission, "third"))
        with pytest.raises(Overloaded):
            admission.require_room("third")


def test_many_clients_hold_at_most_twice_the_places() -> None:
    admission = Admission(4, 4)
    with ExitStack() as entered:
        for number in range(8):
            entered.enter_context(_placed(admission, f"client {number}"))
        with pytest.raises(Overloaded):
            admission.require_room("one more")


def _placed(admission: Admission, client: str) -> ExitStack:
    entered = ExitStack()
    arrived = entered.enter_context(admission.arrival(client))
    admission.begin(arrived)
    entered.enter_context(admission.place(arrived=arrived))
    return entered
