"""The client of programs with asyncio."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self, TypeVar, Unpack

import httpx2

from service.client import calls, lines
from service.client.address import find_address
from service.client.contents import Content, Photo, Side
from service.client.exchange import exchange
from service.client.schemas import (
    DetectOptions,
    DetectResponse,
    EmbedResponse,
    EnrolItem,
    EnrolOptions,
    EnrolResponse,
    Gallery,
    GalleryOptions,
    IdentifyItem,
    IdentifyOptions,
    IdentifyResponse,
    InfoResponse,
    Receipt,
    VerifyOptions,
    VerifyResponse,
)
from service.client.steps import Answer, Attempt, Call, Failure, Steps
from service.client.tasks import stream_in_tasks
from service.client.transport import ERRORS, client_options, failure_of, request_arguments, time_ran_out

Result = TypeVar("Result")
Entry = TypeVar("Entry")
Item = TypeVar("Item")


class AsyncClient:
    """A client of the service with the methods of `Client`, to await; tasks of one event loop may share it."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        trust_env: bool = True,
    ) -> None:
        """Open a client; it connects with the first call. See `Client`."""
        self._address = find_address(url, key)
        self._timeout = timeout
        self._http = httpx2.AsyncClient(**client_options(self._address, tls, trust_env))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._address.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def info(self) -> InfoResponse:
        """Do as `Client.info`."""
        return await self._send(calls.info)

    async def detect(self, photos: Photo | Sequence[Photo], **options: Unpack[DetectOptions]) -> DetectResponse:
        """Do as `Client.detect`."""
        return await self._send(lambda: calls.detect(photos, options))

    async def embed(self, photos: Photo | Sequence[Photo], **options: Unpack[DetectOptions]) -> EmbedResponse:
        """Do as `Client.embed`."""
        return await self._send(lambda: calls.embed(photos, options))

    async def verify(self, probe: Side, reference: Side, **options: Unpack[VerifyOptions]) -> VerifyResponse:
        """Do as `Client.verify`."""
        return await self._send(lambda: calls.verify(probe, reference, options))

    async def identify(
        self,
        contents: Content | Sequence[Content],
        *,
        gallery: str | Sequence[str],
        **options: Unpack[IdentifyOptions],
    ) -> IdentifyResponse:
        """Do as `Client.identify`."""
        return await self._send(lambda: calls.identify(contents, gallery, options))

    def identify_many(
        self,
        contents: Iterable[Content] | AsyncIterable[Content],
        *,
        gallery: str | Sequence[str],
        at_once: int = 4,
        **options: Unpack[IdentifyOptions],
    ) -> AsyncGenerator[tuple[Content, IdentifyItem], None]:
        """Do as `Client.identify_many`, contents may be asynchronous; stop early with `contextlib.aclosing`."""
        call_of = partial(lines.identify_lines, gallery, options)
        return self._stream(contents, lines.identify_line, call_of, at_once)

    async def enrol(
        self, gallery: str, subject: str, contents: Content | Sequence[Content], **options: Unpack[EnrolOptions]
    ) -> EnrolResponse:
        """Do as `Client.enrol`."""
        return await self._send(lambda: calls.enrol(gallery, subject, contents, options))

    def enrol_many(
        self,
        gallery: str,
        entries: Iterable[tuple[str, Content]] | AsyncIterable[tuple[str, Content]],
        *,
        at_once: int = 4,
        **options: Unpack[EnrolOptions],
    ) -> AsyncGenerator[tuple[tuple[str, Content], EnrolItem], None]:
        """Do as `Client.enrol_many`, entries may be asynchronous; stop early with `contextlib.aclosing`."""
        call_of = partial(lines.enrol_lines, gallery, options)
        return self._stream(entries, lines.enrol_line, call_of, at_once)

    async def erase(self, gallery: str, subject: str) -> Receipt:
        """Do as `Client.erase`."""
        return await self._send(lambda: calls.erase(gallery, subject))

    async def create_gallery(self, gallery: str, **options: Unpack[GalleryOptions]) -> Gallery:
        """Do as `Client.create_gallery`."""
        return await self._send(lambda: calls.create_gallery(gallery, options))

    async def galleries(self) -> tuple[Gallery, ...]:
        """Do as `Client.galleries`."""
        return await self._run(calls.all_galleries(self._timeout))

    async def request(
        self, method: str, path: str, *, query: dict[str, Any] | None = None, json: dict[str, Any] | None = None
    ) -> Any:
        """Do as `Client.request`."""
        return await self._send(lambda: calls.other(method, path, query or {}, json))

    async def _send(self, make_call: Callable[[], Call[Result]]) -> Result:
        call = await asyncio.to_thread(make_call)  # in a thread, because photos are read from files
        return await self._run(exchange(call, self._timeout))

    async def _run(self, steps: Steps[Result]) -> Result:
        """Do what a call asks for, until its result."""
        reply: Answer | Failure | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Attempt):
                reply = await self._attempt(step)
            else:
                reply = None
                await asyncio.sleep(step.seconds)

    async def _attempt(self, attempt: Attempt) -> Answer | Failure:
        request = self._http.build_request(**request_arguments(attempt))
        try:
            async with asyncio.timeout(attempt.left_s):
                response = await self._http.send(request)
        except TimeoutError:
            return time_ran_out()
        except ERRORS as error:
            return failure_of(error)
        return Answer(response.status_code, response.headers, response.content)

    def _stream(
        self,
        entries: Iterable[Entry] | AsyncIterable[Entry],
        line_of: Callable[[Entry], bytes],
        call_of: Callable[[Sequence[bytes]], Call[list[Item]]],
        at_once: int,
    ) -> AsyncGenerator[tuple[Entry, Item], None]:
        async def send(window: Sequence[bytes]) -> list[Item]:
            return await self._run(exchange(call_of(window), self._timeout))

        return stream_in_tasks(entries, line_of, send, at_once)
