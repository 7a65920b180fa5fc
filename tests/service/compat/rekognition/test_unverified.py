"""Bodies whose signatures are not verified yet, as whoever knows the public id of a key can send them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from fastapi import Request

from models.deadline import Deadline
from service.api.admission import BodyBudget
from service.compat.rekognition import unverified
from service.compat.rekognition.access import SignedRequests
from service.compat.rekognition.signature import digest_of
from service.compat.rekognition.unverified import PROMPT_S, UnverifiedBodies
from service.errors import BodyTooSlow, Overloaded, SignatureWrong
from service.security.guard import Guard
from service.security.keys.keyring import Keyring
from service.security.keys.store import KeyStore
from service.settings import RequestSettings
from tests.service.compat.rekognition.conftest import rekognition_key, signed

MOST = 1000
LIMITS = RequestSettings(max_bytes=MOST, buffered_bytes=16 * MOST)  # 4 bodies are the share, and 2 the part of a key

Receive = Callable[[], Awaitable[Any]]


def _stalled(size: int) -> Receive:
    """Return what receives most of a body, and then nothing."""
    pieces = [{"type": "http.request", "body": b"x" * size, "more_body": True}]

    async def receive() -> Any:
        return pieces.pop() if pieces else await asyncio.Event().wait()

    return receive


def _whole(body: bytes) -> Receive:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _scope(headers: dict[str, str]) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, "state": {}}


@asynccontextmanager
async def _attack(admit: Callable[[Receive], Awaitable[Any]], sockets: int, size: int) -> AsyncIterator[list[Any]]:
    """Send most of some bodies until the block ends."""
    uploads = [asyncio.ensure_future(admit(_stalled(size))) for _ in range(sockets)]
    for _ in range(5):
        await asyncio.sleep(0)
    yield uploads
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def keyring(keys: KeyStore) -> Iterator[Keyring]:
    keyring = Keyring(keys)
    yield keyring
    keyring.close()


class Service:
    """What admits signed requests, and the budget of their bodies."""

    def __init__(self, keyring: Keyring) -> None:
        self.budget = BodyBudget(LIMITS.buffered_bytes, LIMITS.streams_bytes)
        self.schemes = SignedRequests(Guard(keyring, "nobody"), self.budget, LIMITS)

    async def admit(self, credentials: Credentials, receive: Receive, body: bytes = b"{}", **more: str) -> str | None:
        """Admit a request, and return the id of its key."""
        headers = signed(
            credentials, "ListCollections", body, more={name.replace("_", "-"): to for name, to in more.items()}
        )
        with ExitStack() as held:
            access, _ = await self.schemes.admit(_scope(headers), receive, held)
            return access.key.id if access.key else None

    def attack(self, victim: Credentials, sockets: int = 20, size: int = MOST) -> Any:
        """Name the id of a key without its secret."""
        thief = Credentials(victim.access_key, "no secret")
        return _attack(lambda receive: self.admit(thief, receive, b"x" * (size + 1)), sockets, size)


def test_the_id_of_a_key_takes_nothing_from_its_client_who_states_the_digest(keys: KeyStore, keyring: Keyring) -> None:
    async def attacked() -> None:
        service, victim = Service(keyring), rekognition_key(keys)
        async with service.attack(victim):
            body = b"x" * MOST
            assert await service.admit(victim, _whole(body), body, X_Amz_Content_SHA256=digest_of([body]))

    asyncio.run(attacked())


def test_uploads_that_stall_give_way_to_the_client_of_the_key(
    keys: KeyStore, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attacked() -> None:
        service, victim = Service(keyring), rekognition_key(keys)
        async with service.attack(victim) as uploads:
            with pytest.raises(Overloaded):  # for the time that a prompt body takes
                await service.admit(victim, _whole(b"x" * MOST), b"x" * MOST)
            monkeypatch.setattr(unverified, "PROMPT_S", 0.0)
            for _ in range(5):
                assert await service.admit(victim, _whole(b"x" * MOST), b"x" * MOST)
            await asyncio.sleep(0.01)
            ended = await asyncio.gather(*(upload for upload in uploads if upload.done()), return_exceptions=True)
            assert len(ended) == 19  # all but the one for which there is room beside the client
            assert all(isinstance(error, Overloaded) for error in ended)

    asyncio.run(attacked())


def test_known_ids_take_no_more_than_a_share_of_the_memory(keys: KeyStore, keyring: Keyring) -> None:
    async def attacked() -> None:
        service, victims = Service(keyring), [rekognition_key(keys, name=name) for name in "abc"]
        other = rekognition_key(keys, name="other")
        async with service.attack(victims[0]):
            assert await service.admit(other, _whole(b"x" * MOST), b"x" * MOST)  # without waiting
            async with service.attack(victims[1]), service.attack(victims[2]):
                assert service.budget._left >= LIMITS.buffered_bytes * 3 // 4
        assert service.budget._left == LIMITS.buffered_bytes

    asyncio.run(attacked())


def test_a_wrong_signature_over_a_stated_digest_is_refused_before_the_body(keys: KeyStore, keyring: Keyring) -> None:
    async def refused() -> None:
        service, victim = Service(keyring), rekognition_key(keys)
        thief = Credentials(victim.access_key, "no secret")
        digest = digest_of([b"{}"])
        with pytest.raises(SignatureWrong):
            await asyncio.wait_for(service.admit(thief, _stalled(0), X_Amz_Content_SHA256=digest), 5)
        with pytest.raises(SignatureWrong):  # another body than the one whose digest is signed
            await service.admit(victim, _whole(b"[]"), X_Amz_Content_SHA256=digest)

    asyncio.run(refused())


def test_verified_bodies_count_for_the_client_of_the_key(keys: KeyStore, keyring: Keyring) -> None:
    async def admitted() -> None:
        service, client = Service(keyring), rekognition_key(keys)
        headers = signed(client, "ListCollections", b"x" * MOST)
        with ExitStack() as held:
            for _ in range(8):  # half of the budget
                await service.schemes.admit(_scope(headers), _whole(b"x" * MOST), held)
            with pytest.raises(Overloaded):
                await service.schemes.admit(_scope(headers), _whole(b"x" * MOST), held)

    asyncio.run(admitted())


def test_prompt_bodies_never_give_way_and_the_oldest_other_does() -> None:
    async def uploaded() -> None:
        now = 0.0
        budget = BodyBudget(100)
        bodies = UnverifiedBodies(budget, 40, lambda: now)

        async def receive(key: str, size: int) -> list[bytes]:
            return await bodies.receive(Request(_scope({}), _stalled(size)), key, 20, Deadline(60))

        uploads = [asyncio.ensure_future(receive(key, 10)) for key in "abcd"]
        await asyncio.sleep(0)
        now = PROMPT_S - 0.1
        with pytest.raises(Overloaded):
            await receive("e", 10)
        now = PROMPT_S
        newer = asyncio.ensure_future(receive("e", 10))
        with pytest.raises(Overloaded):
            await uploads[0]
        assert not any(upload.done() for upload in (*uploads[1:], newer))
        assert budget._left == 60
        for upload in (*uploads, newer):
            upload.cancel()
        await asyncio.gather(*uploads, newer, return_exceptions=True)
        assert budget._left == 100

    asyncio.run(uploaded())


def test_a_slow_body_of_a_share_that_is_not_full_has_its_time() -> None:
    async def uploaded() -> None:
        bodies = UnverifiedBodies(BodyBudget(100), 40)
        begun = time.monotonic()
        with pytest.raises(BodyTooSlow):
            await bodies.receive(Request(_scope({}), _stalled(10)), "a", 20, Deadline(0.2))
        assert time.monotonic() - begun >= 0.19

    asyncio.run(uploaded())
