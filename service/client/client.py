"""The client of programs without asyncio."""

import ssl
import time
from collections.abc import Callable, Generator, Iterable, Sequence
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
from service.client.threads import stream_in_threads
from service.client.transport import ERRORS, client_options, failure_of, request_arguments, time_ran_out

Result = TypeVar("Result")
Entry = TypeVar("Entry")
Item = TypeVar("Item")


class Client:
    """A client of the service; threads may share it.

    Every method raises `VultusProblem` if the service refuses the request or fails, `NoAnswer` if it does not answer,
    and `OutOfTime` if the time limit passes. A request that the service refused for load is sent again after its
    `Retry-After`, and one whose connection broke is sent again if that does no harm.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        trust_env: bool = True,
    ) -> None:
        """Open a client; it connects with the first call.

        Args:
            url: Address of the service; default: `VULTUS_CLIENT_URL`, otherwise `http://127.0.0.1:8000`.
            key: Key; default: `VULTUS_CLIENT_KEY`, otherwise none.
            timeout: Time limit in seconds of each call with all its repetitions, and of each group of lines of
                `identify_many` and `enrol_many`.
            tls: Certificates to trust and to show; default: those that httpx trusts.
            trust_env: Whether the proxies of the environment are used.

        Raises:
            ValueError: The address or the key is invalid.
        """
        self._address = find_address(url, key)
        self._timeout = timeout
        self._http = httpx2.Client(**client_options(self._address, tls, trust_env))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._address.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def info(self) -> InfoResponse:
        """Describe what is served: models, embedding contract, operating points."""
        return self._send(calls.info())

    def detect(self, photos: Photo | Sequence[Photo], **options: Unpack[DetectOptions]) -> DetectResponse:
        """Detect the faces of photos; a single photo that fails raises, of several each has its own problem."""
        return self._send(calls.detect(photos, options))

    def embed(self, photos: Photo | Sequence[Photo], **options: Unpack[DetectOptions]) -> EmbedResponse:
        """Embed the faces of photos; as `detect`."""
        return self._send(calls.embed(photos, options))

    def verify(self, probe: Side, reference: Side, **options: Unpack[VerifyOptions]) -> VerifyResponse:
        """Compare two sides, each a photo, an embedding or a `Subject`."""
        return self._send(calls.verify(probe, reference, options))

    def identify(
        self,
        contents: Content | Sequence[Content],
        *,
        gallery: str | Sequence[str],
        **options: Unpack[IdentifyOptions],
    ) -> IdentifyResponse:
        """Search galleries for the faces of photos, or for embeddings."""
        return self._send(calls.identify(contents, gallery, options))

    def identify_many(
        self,
        contents: Iterable[Content],
        *,
        gallery: str | Sequence[str],
        at_once: int = 4,
        **options: Unpack[IdentifyOptions],
    ) -> Generator[tuple[Content, IdentifyItem], None, None]:
        """Search galleries for any number of photos and embeddings, also an endless stream.

        Args:
            contents: Photos and embeddings, of which some are read ahead.
            gallery: Name of the gallery to search, or several names.
            at_once: Maximum number of requests on their way.
            options: Options of the search.

        Yields:
            Each content with its answer, in order, as the answers arrive. Who stops early waits for the requests on
            their way, at most for the time limit.
        """
        call_of = partial(lines.identify_lines, gallery, options)
        return self._stream(contents, lines.identify_line, call_of, at_once)

    def enrol(
        self, gallery: str, subject: str, contents: Content | Sequence[Content], **options: Unpack[EnrolOptions]
    ) -> EnrolResponse:
        """Enrol photos or embeddings of a subject; what is stored already is a duplicate, so a call may be repeated."""
        return self._send(calls.enrol(gallery, subject, contents, options))

    def enrol_many(
        self,
        gallery: str,
        entries: Iterable[tuple[str, Content]],
        *,
        at_once: int = 4,
        **options: Unpack[EnrolOptions],
    ) -> Generator[tuple[tuple[str, Content], EnrolItem], None, None]:
        """Enrol any number of photos and embeddings.

        Args:
            gallery: Name of the gallery, which must exist.
            entries: Subjects, each with one of its photos or embeddings; some are read ahead.
            at_once: Maximum number of requests on their way.
            options: Requirements of the photos.

        Yields:
            Each entry with its outcome, in order, once it is stored. Who stops early waits for the requests on their
            way, whose entries are stored.
        """
        call_of = partial(lines.enrol_lines, gallery, options)
        return self._stream(entries, lines.enrol_line, call_of, at_once)

    def erase(self, gallery: str, subject: str) -> Receipt:
        """Erase a subject with all its templates.

        If no answer arrives, the subject may be erased or not; a second call tells by `NotFound`.
        """
        return self._send(calls.erase(gallery, subject))

    def create_gallery(self, gallery: str, **options: Unpack[GalleryOptions]) -> Gallery:
        """Create a gallery."""
        return self._send(calls.create_gallery(gallery, options))

    def galleries(self) -> tuple[Gallery, ...]:
        """Return all galleries that the key reaches, ordered by name."""
        return self._run(calls.all_galleries(self._timeout))

    def request(
        self, method: str, path: str, *, query: dict[str, Any] | None = None, json: dict[str, Any] | None = None
    ) -> Any:
        """Send any other request; return the parsed JSON of the answer, or the bytes of another media type."""
        return self._send(calls.other(method, path, query or {}, json))

    def _send(self, call: Call[Result]) -> Result:
        return self._run(exchange(call, self._timeout))

    def _run(self, steps: Steps[Result], wait: Callable[[float], object] = time.sleep) -> Result:
        """Do what a call asks for, until its result."""
        reply: Answer | Failure | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Attempt):
                reply = self._attempt(step)
            else:
                reply = None
                wait(step.seconds)

    def _attempt(self, attempt: Attempt) -> Answer | Failure:
        end = time.monotonic() + attempt.left_s
        request = self._http.build_request(**request_arguments(attempt))
        try:
            response = self._http.send(request, stream=True)
            try:
                pieces = []
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    if time.monotonic() > end:  # httpx limits only the time between two pieces
                        return time_ran_out()
            finally:
                response.close()
        except ERRORS as error:
            return failure_of(error)
        return Answer(response.status_code, response.headers, b"".join(pieces))

    def _stream(
        self,
        entries: Iterable[Entry],
        line_of: Callable[[Entry], bytes],
        call_of: Callable[[Sequence[bytes]], Call[list[Item]]],
        at_once: int,
    ) -> Generator[tuple[Entry, Item], None, None]:
        def send(window: Sequence[bytes], wait: Callable[[float], object]) -> list[Item]:
            return self._run(exchange(call_of(window), self._timeout), wait)

        return stream_in_threads(entries, line_of, send, at_once)
