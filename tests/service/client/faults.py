"""A real HTTP server that refuses, breaks and delays, as it is told for each connection."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CUT = b""
"""Instead of a response: the connection ends after the request was received."""

SILENT = b"silent"
"""Instead of a response: nothing, until the server stops."""

TRICKLING = b"trickling"
"""Instead of a response: a byte of one at a time, until the server stops."""


def response(status: int, body: bytes = b"{}", media_type: str = "application/json", **headers: str) -> bytes:
    """Return the bytes of a response; underscores in the names of headers stand for hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {media_type}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def problem(status: int, code: str, **headers: str) -> bytes:
    body = b'{"status": %d, "code": "%s", "detail": "a sentence", "title": "", "type": ""}' % (status, code.encode())
    return response(status, body, "application/problem+json", **headers)


@dataclass
class FaultServer:
    """Where the server listens, and the requests that it received."""

    url: str
    heads: list[str] = field(default_factory=list)

    def header(self, position: int, name: str) -> str:
        """Return a header of a request."""
        lines = self.heads[position].split("\r\n")
        return next(line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name.lower()}: "))


@contextmanager
def answering(*responses: bytes) -> Iterator[FaultServer]:
    """Answer each request, each on a connection of its own, with the next response; the last one is repeated."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, server, responses, ended))
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, server: FaultServer, responses: Sequence[bytes], ended: threading.Event) -> None:
    position = 0
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            server.heads.append(_receive(connection))
            answer = responses[min(position, len(responses) - 1)]
            position += 1
            if answer == SILENT:
                ended.wait(20)
            elif answer == TRICKLING:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not ended.wait(0.1):
                    connection.sendall(b" ")
            else:
                connection.sendall(answer)


def _receive(connection: socket.socket) -> str:
    """Return the head of a request whose body has a length, after its body has arrived."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(2**16) or b"\r\n\r\n"
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(2**16) or b" " * length
    return head.decode()
