"""HTTP/1.1 as clients speak it, on top of uvicorn.

uvicorn's parser stops at a request that offers an upgrade (`Upgrade: h2c`, as Java's HttpClient and `curl --http2` send
it, or a websocket) and loses its body. A server may ignore an offer (RFC 9110, section 7.8), so this protocol has the
request parsed again without it. Four more departures: a request that is not HTTP is answered with a problem document;
a response that is due to an earlier request of the connection is sent first; a client that ends its side of the
connection after its request gets its response; and what is left of a body whose request is already answered is
discarded within limits, so that the client reads the response before the connection ends (RFC 9112, section 9.6).
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from models.errors import VultusError
from service.api.problems import MEDIA_TYPE, problem_of
from service.api.request_id import HEADER
from service.api.workers import STOPPING
from service.errors import HttpMalformed, TooManyConnections

_MAX_DISCARDED_BYTES = 2**30
_HEAD_PIECE_BYTES = 2**14  # that are parsed at once, because a client may send many requests together
_BODY_PIECE_BYTES = 2**16  # the same of a body, behind which more requests may follow
_MAX_PIPELINED = 16  # requests of a connection that wait for the earlier ones; what follows is not parsed yet
_DISCARD_S = 30.0  # generous, because a reset would discard the response that the client has not read yet
_RETRY_S = 1  # after which a refused connection may be tried again
_FIRST_PROBE_S = 0.02  # each later probe waits twice as long
_LAST_PROBE_S = 0.64  # more than the round trip of any network
_STILL_WORKING = b"HTTP/1.1 100 Continue\r\n\r\n"  # not 102, which Python's http.client takes for the response


class _ResponseTransport:
    """The transport as a response uses it: closing it leaves the client time to read the response."""

    def __init__(self, protocol: "HttpProtocol") -> None:
        self._write = protocol.transport.write
        self.close = protocol.close_after_response
        self.is_closing = protocol.is_ending

    def write(self, piece: bytes) -> None:
        """Write, unless a later request of the connection was refused meanwhile."""
        if not self.is_closing():
            self._write(piece)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of connections.

    Attributes:
        connections: Maximum number of open connections.
        head_bytes: Maximum size of the head of a request.
        head_s: Time in seconds from the connection, or from the first byte of a later request, to the end of its head.
    """

    connections: int = 4096
    head_bytes: int = 2**16
    head_s: float = 30.0


class HttpProtocol(HttpToolsProtocol):
    """A connection whose requests keep their bodies, whatever they offer."""

    def __init__(self, *args: Any, limits: ConnectionLimits = ConnectionLimits(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._discarding: asyncio.TimerHandle | None = None
        self._discarded = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._progressed = False
        self._unproductive_bytes = 0  # since the last part of a request was complete
        self._held = b""  # what arrived behind requests that wait for earlier ones
        self._ending = False  # nothing more is sent; what arrives is discarded
        self._stopping = asyncio.Event()
        self._probe_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Expect a request, or refuse a connection too many."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self._limits.connections:
            self._send(TooManyConnections("the service has as many connections as it may; retry later", _RETRY_S))
            self.transport.close()  # at once, because a connection that is discarded takes a descriptor too

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._ending:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        if self._held:
            self._held += data
            self.flow.pause_reading()
            return
        self._read(data)

    def _read(self, data: bytes) -> None:
        left = memoryview(data)
        while left and not self.is_ending():
            if len(self.pipeline) >= _MAX_PIPELINED:
                self._held = bytes(left)
                self.flow.pause_reading()
                return
            piece = left[: _HEAD_PIECE_BYTES if self._in_head else _BODY_PIECE_BYTES]
            left = left[len(piece) :]
            self._progressed = False
            try:
                self._parse(piece)
            except httptools.HttpParserError as error:
                self._refuse(HttpMalformed(_reason(bytes(piece), error)))
                return
            # What begins in a piece, such as the head of a next request, is counted from the next piece on.
            self._unproductive_bytes = 0 if self._progressed else self._unproductive_bytes + len(piece)
            if self._unproductive_bytes > self._limits.head_bytes:
                what = "head of the request" if self._in_head else "framing of the body"
                self._refuse(HttpMalformed(f"the {what} exceeds {self._limits.head_bytes} bytes"))
                return

    def _read_held(self) -> None:
        held, self._held = self._held, b""
        self._read(held)

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:  # raised after the head
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(HttpMalformed("CONNECT asks for a tunnel, and this service is not a proxy"))
                    return
                data = data[offer.args[0] :]
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        super().on_message_begin()
        self._in_head = True
        self.scope["state"][STOPPING] = self._stopping  # a copy of this request
        if not self._head_timer:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. What follows a body is discarded: it must not become a header (RFC 9110, section 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_s, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is parsed again."""
        self._end_head()
        self._in_head, self._progressed = False, True
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.cycle.transport = _ResponseTransport(self)  # type: ignore[assignment]  # the part that a cycle uses

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on, or discard it if the request is already answered."""
        self._progressed = True
        if not self.cycle.response_complete:
            super().on_body(body)
            return
        self._discard(len(body))

    def on_message_complete(self) -> None:
        """End the request, unless its head is parsed again."""
        self._in_head, self._progressed = True, True
        if self.parser.should_upgrade():
            return
        if self._discarding:
            self._stop_discarding()
            self.cycle.more_body = False
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the connection: to its next request, or to the rest of a body that nobody reads."""
        super().on_response_complete()
        if self._held:
            self.loop.call_soon(self._read_held)
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._begin_discarding()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn always closes
        """Keep the connection for the response if the client ended its side after a complete request.

        A client that disconnects does the same, so it is probed: only a connection that nobody reads is reset.
        """
        cycle = self.cycle
        if self._ending or cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        if not self._probe_timer and cycle.scope["http_version"] != "1.0":  # which has no interim responses
            self._probe_timer = self.loop.call_later(_FIRST_PROBE_S, self._probe, _FIRST_PROBE_S)
        return True

    def _probe(self, pause_s: float) -> None:
        """Write what changes no response, a few times; the second write fails if the client has left.

        That is an interim response (RFC 9110, section 15.2) before the response, and between its chunks a leading zero
        of the size of the next chunk (RFC 9112, section 7.1).
        """
        cycle = self.cycle
        if cycle.response_complete or self.transport.is_closing():
            return
        if self.pipeline:
            pass  # the response to an earlier request may be half written
        elif not cycle.response_started:
            self.transport.write(_STILL_WORKING)
        elif cycle.chunked_encoding:
            self.transport.write(b"0")
        if pause_s < _LAST_PROBE_S:
            self._probe_timer = self.loop.call_later(2 * pause_s, self._probe, 2 * pause_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._held = b""
        self._stop_discarding()
        self._end_head()
        if self._probe_timer:
            self._probe_timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection as soon as its responses are sent; nothing is discarded once the server stops."""
        self._stopping.set()
        if self._ending:
            self.transport.close()
        else:
            super().shutdown()

    def is_ending(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._ending or self.transport.is_closing()

    def close_after_response(self) -> None:
        """Close the connection, at once unless the client still sends; otherwise the kernel would reset it."""
        if self.cycle.more_body or self.flow.read_paused:
            self._end()
        else:
            self.transport.close()

    def _end(self) -> None:
        """End this side of the connection, and discard what arrives until the client ends its own, within limits."""
        if self.is_ending():
            return
        if self._stopping.is_set():
            self.transport.close()
            return
        self._ending = True
        self._end_head()
        self.pipeline.clear()
        if self.cycle and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._begin_discarding()
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()

    def _begin_discarding(self) -> None:
        self._unset_keepalive_if_required()
        if not self._discarding:
            self._discarded = 0
            self._discarding = self.loop.call_later(_DISCARD_S, self.transport.close)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MAX_DISCARDED_BYTES:
            self.transport.close()

    def _stop_discarding(self) -> None:
        if self._discarding:
            self._discarding.cancel()
            self._discarding = None

    def _refuse(self, error: HttpMalformed) -> None:
        """Answer a request that the application never sees, and close the connection."""
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            self._send(error)
        elif not cycle.more_body:  # an earlier request is complete and not yet answered
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        elif not (cycle.response_started or self.pipeline):  # the body itself is malformed
            self._send(error)
        self._end()

    def _send(self, error: VultusError) -> None:
        problem = problem_of(error, uuid.uuid4().hex)
        body = problem.model_dump_json(exclude_none=True).encode()
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n{HEADER.lower()}: {problem.request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[problem.status] + head.encode() + body)


def _reason(data: bytes, error: httptools.HttpParserError) -> str:
    """Say what arrived, if it is another protocol, or what is wrong with the request."""
    if data.startswith(b"PRI * HTTP/2"):
        return "this is HTTP/2 without an upgrade; the service speaks HTTP/1.1"
    if data.startswith(b"\x16\x03"):  # the record of a TLS handshake (RFC 8446, section 5.1)
        return "this is TLS; the service speaks HTTP, so use http:// or a proxy that ends TLS"
    return f"the request is not valid HTTP/1.1: {error}"
