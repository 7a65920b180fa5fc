"""HTTP/1.1 connections: no body is lost, whatever a request offers and in whatever pieces it arrives."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from service import http_protocol
from service.http_protocol import ConnectionLimits, HttpProtocol

OFFERS = [
    "",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "upgrade: TLS/1.0, HTTP/1.1\r\nconnection: keep-alive, upgrade\r\n",
    "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "Upgrade: h2c\r\n",
]


LEFT = threading.Event()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the request as it was received.

    `/unread` leaves the body unread, `/slow` waits for 0.15 s, `/stream` answers in two parts, and `/left` and
    `/left-stream` wait until the client has left, the latter after the start of the response.
    """
    size, digest = 0, sha256()
    while scope["path"] != "/unread":
        message = await receive()
        size += len(message.get("body", b""))
        digest.update(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if scope["path"] in ("/stream", "/left-stream"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    if scope["path"].startswith("/left"):
        assert (await receive())["type"] == "http.disconnect"
        LEFT.set()
        return
    if scope["path"] in ("/slow", "/stream"):
        await asyncio.sleep(0.15)
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"two\n"})
        return
    body = json.dumps([scope["method"], scope["path"], size, digest.hexdigest()]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class FakeTransport:
    """A transport that records what is written."""

    def __init__(self, protocol: HttpProtocol) -> None:
        self.protocol = protocol
        self.written = b""
        self.closed = self.ended = self.paused = False
        self.late = False  # whether something was written after the end

    def write(self, piece: bytes) -> None:
        self.late = self.late or self.closed or self.ended
        self.written += piece

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else None


def connect(limits: ConnectionLimits | None = None) -> tuple[HttpProtocol, FakeTransport]:
    config = uvicorn.Config(echo, http=HttpProtocol, ws="none", lifespan="off", log_level="critical")
    config.load()
    protocol = HttpProtocol(config, ServerState(), {}, limits=limits or ConnectionLimits())
    transport = FakeTransport(protocol)
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport


async def _converse(pieces: list[bytes]) -> FakeTransport:
    protocol, transport = connect()
    for piece in pieces:
        while transport.paused:
            await asyncio.sleep(0)
        if not transport.closed:
            protocol.data_received(piece)
    while protocol.tasks:
        await asyncio.wait(protocol.tasks)
    assert not transport.late
    return transport


def converse(*pieces: bytes) -> FakeTransport:
    return asyncio.run(_converse(list(pieces)))


def responses(written: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the status and the JSON of each response; `100 Continue` has None."""
    while written:
        head, _, written = written.partition(b"\r\n\r\n")
        status, *headers = head.decode().lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in headers if line.startswith("content-length")), 0)
        yield int(status.split()[1]), json.loads(written[:length]) if length else None
        written = written[length:]


def request(body: bytes, offer: str = "", chunks: int = 0, expects: bool = False, path: str = "/") -> bytes:
    """Return a POST whose body has a length, or is sent in chunks."""
    if not chunks:
        framing, sent = f"Content-Length: {len(body)}", body
    else:
        step = len(body) // chunks + 1
        parts = [body[start : start + step] for start in range(0, len(body), step)]
        framing = "Transfer-Encoding: chunked"
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    expectation = "Expect: 100-continue\r\n" if expects else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{offer}{expectation}{framing}\r\n\r\n".encode() + sent


def echoed(body: bytes, path: str = "/") -> tuple[int, Any]:
    return 200, ["POST", path, len(body), sha256(body).hexdigest()]


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=300), st.just(b"GET / HTTP/1.1\r\n\r\n"), st.just(bytes(100_000))),
            st.sampled_from(OFFERS),
            st.integers(0, 3),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 3000), max_size=20),
)
def test_every_body_arrives_whatever_its_request_offers(
    sent: list[tuple[bytes, str, int, bool]], cuts: list[int]
) -> None:
    stream = b"".join(request(*each) for each in sent)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    transport = converse(*(stream[start:end] for start, end in pairwise(edges) if end > start))
    final = [answer for answer in responses(transport.written) if answer[0] != 100]
    assert final == [echoed(body) for body, *_ in sent]
    assert not transport.closed


def test_a_client_that_offers_an_upgrade_is_asked_for_its_body_and_may_close() -> None:
    body = b"photo"
    offered = request(body, OFFERS[1], expects=True)
    assert list(responses(converse(offered).written)) == [(100, None), echoed(body)]
    closing = request(body, "Connection: Upgrade, close\r\nUpgrade: h2c\r\n")
    transport = converse(closing)
    assert (list(responses(transport.written)), transport.closed) == ([echoed(body)], True)


def test_a_websocket_is_answered_as_an_ordinary_request() -> None:
    head = f"GET /v1/live HTTP/1.1\r\nHost: x\r\n{OFFERS[2]}\r\n".encode()
    ((status, answer),) = responses(converse(head).written)
    assert (status, answer[:3]) == (200, ["GET", "/v1/live", 0])


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", "not a proxy"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS"),
        (b"hello\r\n\r\n", "not valid HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not valid HTTP/1.1"),
    ],
    ids=["CONNECT", "HTTP/2", "TLS", "text", "chunk"],
)
def test_what_is_not_a_request_is_answered_with_a_problem(sent: bytes, sentence: str) -> None:
    transport = converse(sent)
    ((status, problem),) = responses(transport.written)
    assert (status, problem["code"], problem["status"]) == (400, "http_malformed", 400)
    assert sentence in problem["detail"]
    assert b"content-type: application/problem+json\r\n" in transport.written
    assert transport.ended


def test_an_earlier_request_is_answered_before_the_connection_closes() -> None:
    for malformed in (b"nonsense\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"):
        transport = converse(request(b"first") + malformed)
        assert (list(responses(transport.written)), transport.closed) == ([echoed(b"first")], True)


def test_nothing_is_written_after_the_end_of_a_connection() -> None:
    begun = request(b"first", path="/slow")
    transport = converse(begun + b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert (transport.written, transport.ended) == (b"", True)


def test_a_body_that_nobody_reads_is_discarded_and_the_connection_goes_on() -> None:
    unread = request(bytes(500_000), path="/unread")
    transport = converse(unread[:200], unread[200:], request(b"next"))
    assert [status for status, _ in responses(transport.written)] == [200, 200]
    assert list(responses(transport.written))[1] == echoed(b"next")


def test_only_so_much_of_an_unread_body_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_MAX_DISCARDED_BYTES", 1000)

    async def send_slowly(sizes: list[int], pause_s: float = 0) -> FakeTransport:
        protocol, transport = connect()
        protocol.data_received(request(bytes(2000), path="/unread")[:-2000])
        await asyncio.wait(protocol.tasks)
        for size in sizes:
            protocol.data_received(bytes(size))
        await asyncio.sleep(pause_s)
        assert transport.written.startswith(b"HTTP/1.1 200")
        return transport

    assert not asyncio.run(send_slowly([500, 500])).closed
    assert asyncio.run(send_slowly([500, 501])).closed
    monkeypatch.setattr(http_protocol, "_DISCARD_S", 0.01)
    assert asyncio.run(send_slowly([500], 0.05)).closed


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"


def test_what_follows_a_body_does_not_become_a_header() -> None:
    async def converse_and_look() -> list[tuple[bytes, bytes]]:
        protocol, _ = connect()
        protocol.data_received(CHUNKED + b"X-Api-Key: abc\r\nOrigin: x\r\n\r\n")
        await asyncio.wait(protocol.tasks)
        return list(protocol.scope["headers"])

    assert [name for name, _ in asyncio.run(converse_and_look())] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("piece", [b"a:\r\n" * 4096, b"x" * 16384], ids=["many", "long"])
@pytest.mark.parametrize("answered", [True, False])
def test_trailers_have_a_size(piece: bytes, answered: bool) -> None:
    async def send_trailers() -> int:
        protocol, _ = connect(ConnectionLimits(head_bytes=2**16))
        protocol.data_received(CHUNKED.replace(b" / ", b" /unread ") if answered else CHUNKED)
        if answered:
            await asyncio.wait(protocol.tasks)
        for number in range(50):
            protocol.data_received(piece)
            if protocol.is_ending():
                return number
        return 50

    assert asyncio.run(send_trailers()) <= 5


def test_chunk_extensions_have_a_size() -> None:
    transport = converse(CHUNKED[:-3] + b"3;", *[b"x" * 16384] * 6)
    ((status, body),) = responses(transport.written)
    assert (status, body["code"]) == (400, "http_malformed")
    assert "the framing of the body exceeds" in body["detail"]


def test_requests_that_wait_for_earlier_ones_are_not_parsed_ahead() -> None:
    small = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    async def send_many() -> tuple[int, int]:
        protocol, transport = connect()
        most = 0
        for start in range(0, 3000, 1000):
            del start
            protocol.data_received(small * 1000)
            most = max(most, len(protocol.pipeline))
        while protocol.tasks or protocol.pipeline or protocol._held:
            await asyncio.sleep(0)
            most = max(most, len(protocol.pipeline))
        return most, transport.written.count(b"HTTP/1.1 200 OK")

    most, answered = asyncio.run(send_many())
    assert answered == 3000
    assert most <= 16 + 2**14 // len(small) + 1


def test_the_head_of_a_request_has_a_size_and_a_time() -> None:
    transport = converse(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Long: " + b"a" * 2**16)
    ((status, body),) = responses(transport.written)
    assert (status, body["code"]) == (400, "http_malformed")
    assert transport.ended

    async def wait(sent: bytes) -> bool:
        protocol, transport = connect(ConnectionLimits(head_s=0.05))
        protocol.data_received(sent)
        await asyncio.sleep(0.2)
        return transport.closed

    assert asyncio.run(wait(b""))
    assert asyncio.run(wait(b"GET / HTTP/1.1\r\nHost: x\r\n"))
    assert asyncio.run(wait(request(b"first") + b"GET / HT"))
    assert not asyncio.run(wait(request(b"first")))
    assert not asyncio.run(wait(request(bytes(100_000))[:-1])), "the time of a body is another one"


@pytest.fixture(params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Serve `echo` on either event loop and yield the port."""
    config = uvicorn.Config(
        echo, http=HttpProtocol, ws="none", lifespan="off", log_level="critical", loop=request.param
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "head",
    [
        "POST /unread HTTP/1.0\r\n",
        "POST /unread HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Long: {'a' * 2**17}",
    ],
    ids=["1.0", "close", "chunk", "head"],
)
def test_a_client_that_sends_its_whole_body_first_reads_why_it_is_refused(port: int, head: str) -> None:
    body = bytes(20_000_000)  # more than the buffers of the kernel hold
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head.encode())
        client.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.05)  # the response is sent and the rest arrives later
        client.sendall(body)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 " + (b"200" if "/unread" in head else b"400"))
    assert b"\r\nconnection: close\r\n" in answer


def test_the_end_of_a_connection_discards_only_so_much(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_MAX_DISCARDED_BYTES", 1000)
    monkeypatch.setattr(http_protocol, "_DISCARD_S", 0.1)
    head = b"POST /unread HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head)
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200")
        client.sendall(bytes(10_000))
        with pytest.raises(OSError):
            for _ in range(50):
                time.sleep(0.01)
                client.sendall(b"x")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head)
        time.sleep(0.2)
        with pytest.raises(OSError):
            for _ in range(50):
                client.sendall(b"x")
                time.sleep(0.01)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/", "/slow"])
def test_a_client_that_ends_its_side_after_its_request_gets_its_response(port: int, version: str, path: str) -> None:
    sent = request(b"photo", path=path).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent if version == "1.0" else request(b"first", path=path) + sent)
        client.shutdown(socket.SHUT_WR)
        answers = [answer for answer in responses(client.makefile("rb").read()) if answer[0] != 100]
    assert answers == [echoed(body, path) for body in ([b"photo"] if version == "1.0" else [b"first", b"photo"])]


def test_a_client_that_ends_its_side_reads_a_slow_stream(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/stream", b"photo")
    connection.sock.shutdown(socket.SHUT_WR)
    assert connection.getresponse().read() == b"one\ntwo\n"
    connection.close()


def test_a_client_that_left_is_noticed(port: int) -> None:
    for path in ("/left", "/left-stream"):
        LEFT.clear()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(request(b"photo", path=path))
            time.sleep(0.05)
        assert LEFT.wait(2), path


def test_an_incomplete_request_ends_with_its_client(port: int) -> None:
    for sent in (b"", b"GET / HT", request(b"photo")[:-1], request(bytes(9), chunks=2)[:-2]):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b""


@pytest.mark.parametrize("size", [1000, 2**18])
def test_requests_that_are_sent_together_are_no_large_head(size: int) -> None:
    """They arrive in pieces that end anywhere; the limit is that of each head."""
    count = 400
    request = b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300 + b"\r\n\r\n"
    sent = request * count
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    transport = asyncio.run(_converse(pieces))
    assert transport.written.count(b"HTTP/1.1 200") == count
    assert b"exceeds" not in transport.written


def test_a_large_head_after_other_requests_is_refused() -> None:
    request = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    transport = asyncio.run(_converse([request * 3 + request[:-2] + b"X: " + b"a" * 2**18]))
    assert transport.written.count(b"HTTP/1.1 200") == 3
