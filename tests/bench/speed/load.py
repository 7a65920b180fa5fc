"""Load generators for a running service: they reuse connections, send prepared requests and check every answer.

The closed loop keeps a number of clients busy and measures the capacity of the service. The open loop sends at a
constant rate, independent of the answers. It measures latency from the time at which each request should have been
sent, so that it includes the delay of a service that makes its clients wait.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import uvloop

_TIMEOUT_S = 60.0

Check = Callable[[int, bytes], bool]


@dataclass(frozen=True, slots=True)
class Request:
    """A request in its wire format, and the check of its answer.

    Attributes:
        wire: Headers and body.
        right: Takes the status and body of an answer with status 200, and returns whether the answer is correct. Other
            answers are counted by status.
    """

    wire: bytes
    right: Check


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answers to the requests of a run.

    Attributes:
        latencies_ms: Latencies of correct answers, from the intended start.
        statuses: Number of timed answers by status; status 0 stands for a broken connection.
        wrong: Number of answers with status 200 that are incorrect.
        seconds: Time from the first intended start to the last answer.
    """

    latencies_ms: list[float]
    statuses: dict[int, int]
    wrong: int
    seconds: float

    @property
    def rate(self) -> float:
        """Correct answers per second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def lost(self) -> int:
        """Requests that were neither answered correctly nor refused with 429."""
        return self.wrong + sum(count for status, count in self.statuses.items() if status not in (200, 429))

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds within which this share of the correct answers arrived."""
        return float(np.percentile(self.latencies_ms, share * 100)) if self.latencies_ms else float("nan")


class _Tally:
    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.statuses: dict[int, int] = {}
        self.wrong = 0
        self.start = time.perf_counter()

    def note(self, status: int, body: bytes, request: Request, intended: float, timed: bool = True) -> None:
        right = status == 200 and request.right(status, body)
        self.wrong += status == 200 and not right
        if timed:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if right:
                self.latencies_ms.append((time.perf_counter() - intended) * 1000)

    def outcome(self) -> Outcome:
        return Outcome(self.latencies_ms, self.statuses, self.wrong, time.perf_counter() - self.start)


class _Connection:
    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()

    async def send(self, wire: bytes) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._exchange(wire)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            self._streams = None
            return 0, b""

    async def _exchange(self, wire: bytes) -> tuple[int, bytes]:
        if self._streams is None or self._streams[0].at_eof():  # the service closes idle connections
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        reader, writer = self._streams
        writer.write(wire)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        if b"connection: close" in head:
            self.close()
            self._streams = None
        return int(head[9:12]), body


def closed_loop(
    port: int, requests: Sequence[Request], clients: int, seconds: float = float("inf"), most: int = 10**9
) -> Outcome:
    """Keep `clients` busy for `seconds`, or until `most` requests are sent."""

    async def go() -> Outcome:
        tally, order = _Tally(), iter(range(most))
        end = time.perf_counter() + seconds

        async def client() -> None:
            connection = _Connection(port)
            while time.perf_counter() < end and (number := next(order, None)) is not None:
                request = requests[number % len(requests)]
                sent_at = time.perf_counter()
                tally.note(*await connection.send(request.wire), request, sent_at)
            connection.close()

        await asyncio.gather(*(client() for _ in range(clients)))
        return tally.outcome()

    return uvloop.run(go())


def open_loop(port: int, requests: Sequence[Request], rate: float, seconds: float, warm_s: float = 0.0) -> Outcome:
    """Send `rate` requests per second for `seconds`; answers to the first `warm_s` are checked but not timed."""

    async def go() -> Outcome:
        tally, free = _Tally(), [_Connection(port) for _ in range(64)]

        async def send(request: Request, intended: float) -> None:
            connection = free.pop() if free else _Connection(port)
            tally.note(*await connection.send(request.wire), request, intended, intended >= tally.start + warm_s)
            free.append(connection)

        tasks = []
        for number in range(int(rate * seconds)):
            intended = tally.start + number / rate
            await asyncio.sleep(max(0.0, intended - time.perf_counter()))
            tasks.append(asyncio.create_task(send(requests[number % len(requests)], intended)))
        await asyncio.gather(*tasks)
        for connection in free:
            connection.close()
        tally.start += warm_s
        return tally.outcome()

    return uvloop.run(go())


def multipart(path: str, files: Sequence[tuple[str, bytes]], fields: dict[str, str]) -> bytes:
    """Return a request with a multipart body in its wire format."""
    boundary = b"vultus-bench-boundary"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n'
        % (boundary, name.encode(), content)
        for name, content in files
    ]
    parts += [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary, name.encode(), value.encode())
        for name, value in fields.items()
    ]
    body = b"".join(parts) + b"--%s--\r\n" % boundary
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary.decode()}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
