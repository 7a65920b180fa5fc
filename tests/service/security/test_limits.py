"""Limits of keys: requests in progress, and shares of the places of the service."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.api.admission import Admission, BodyBudget
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


def test_no_window_has_more_requests_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyStore(tmp_path)
    key, _ = keys.create(KeyRequest("a", ["verify"], rate="20/s"))
    keys.close()
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)

    async def send() -> list[float]:
        nonlocal now
        limits, accepted = KeyLimits(), []
        for _ in range(600):
            now += 0.005
            if (await limits.count(key)).refusal is None:
                accepted.append(now)
        return accepted

    accepted = asyncio.run(send())
    assert len(accepted) >= 55
    assert all(later - earlier >= 0.99 for earlier, later in pairwise_apart(accepted, 20))


def pairwise_apart(times: list[float], count: int) -> Iterator[tuple[float, float]]:
    return zip(times, times[count:], strict=False)


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


def test_bodies_that_arrive_count_for_the_client_that_sends_them() -> None:
    admission = Admission(4, 4)
    with ExitStack() as entered:
        for _ in range(4):
            admission.begin(entered.enter_context(admission.arrival("greedy")))
        with pytest.raises(Overloaded):
            admission.require_room("greedy")
        entered.enter_context(_placed(admission, "modest"))
        entered.enter_context(_placed(admission, "modest"))
        with pytest.raises(Overloaded):
            admission.require_room("modest")


def test_the_bodies_of_one_client_leave_room_for_others() -> None:
    budget = BodyBudget(1000, 600)
    with budget.account(client="greedy") as one, budget.account(client="greedy") as two:
        one.take(400)
        two.take(200)
        with pytest.raises(Overloaded):
            two.take(1)
        with budget.account(client="modest") as other:
            other.take(400)
            with pytest.raises(Overloaded):
                other.take(1)
        with budget.account() as nobody:
            nobody.take(400)
        one.give_back(400)
        two.take(400)
    with budget.account() as everything:
        everything.take(1000)


def _placed(admission: Admission, client: str) -> ExitStack:
    entered = ExitStack()
    arrived = entered.enter_context(admission.arrival(client))
    admission.begin(arrived)
    entered.enter_context(admission.place(arrived=arrived))
    return entered
