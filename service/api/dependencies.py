"""What every operation needs: the models, the settings, and a bounded number of threads to compute in."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request, Response
from pydantic import BaseModel

from models.assembly import Models
from models.errors import EngineStopped
from models.job import Job
from service.admission import Admission, BodyBudget
from service.api.body import Sent, receive, refused_at_the_end
from service.api.intake import read_members, time_limit
from service.errors import NotReady
from service.gallery.galleries import Galleries
from service.reference_cache import ReferenceCache
from service.settings import Settings

PROBE_S = 5.0  # an engine that takes longer, behind at most a queue, does not work

Answer = TypeVar("Answer")
Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Backend:
    """What the application was made with.

    Attributes:
        models, settings, galleries: As named.
        references: Embedded photos that are compared again and again.
        admission: Requests that are let in to compute or to wait for it.
        bodies: Bytes that they may have in memory.
        turns: Requests that compute at the same time.
        clerks: Requests that read or change galleries at the same time.
        probes: Health probes at the same time.
    """

    models: Models
    settings: Settings
    galleries: Galleries
    references: ReferenceCache
    admission: Admission
    bodies: BodyBudget
    turns: anyio.CapacityLimiter
    clerks: anyio.CapacityLimiter
    probes: anyio.CapacityLimiter

    async def answer(self, request: Request, work: "Callable[[Backend, Sent, Job], Response]") -> Response:
        """Let a request in, wait for its body and its turn, and have it read, computed and written by a thread.

        Raises:
            Overloaded: There is no place, or no memory for its body.
            DeadlineExceeded, JobAbandoned: Nobody waits for the answer any more.
            EngineStopped: The service ends.
            VultusError: What `work` raises.
        """
        self.admission.require_room()  # at once: no body is read for nothing
        limits = self.settings.request
        job = Job(time_limit(request.headers, limits))
        with self.bodies.account() as take:
            sent = await receive(request, limits, take, job)
            with _abandoned_when_left(request, job):
                return await self.compute(job, work, self, sent, job)

    async def compute(self, job: Job, work: Callable[..., Answer], *arguments: object, granted: bool = False) -> Answer:
        """Wait for a place and a turn, run blocking work off the event loop, and wait for it until the job's deadline.

        Work that is not waited for any more holds its place and its turn until it ends, which it does before its next
        step: otherwise more would run than there are turns.

        Args:
            job: Whose work it is.
            work: What to run.
            arguments: Of it.
            granted: Whether it has a place in any case.

        Raises:
            Overloaded: There is no place.
            DeadlineExceeded, JobAbandoned: Nobody waits for the answer any more.
            EngineStopped: The service ends.
        """

        async def run() -> Answer:
            with self.admission.place(granted):
                with anyio.move_on_after(job.remaining_s):  # ends a wait for a turn; what has begun goes on
                    return await to_thread.run_sync(work, *arguments, limiter=self.turns)
                raise job.late()

        running = asyncio.ensure_future(run())
        try:
            with refused_at_the_end():
                await asyncio.wait({running}, timeout=job.remaining_s)
        except EngineStopped:
            job.abandon()
            running.add_done_callback(_forget)
            raise
        if running.done():
            return running.result()
        running.add_done_callback(_forget)
        raise job.late()

    async def consult(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Read or change galleries off the event loop, without waiting behind inference.

        Raises:
            EngineStopped: The service ends.
        """
        with refused_at_the_end():
            return await to_thread.run_sync(work, *arguments, limiter=self.clerks)

    async def read(self, request: Request, schema: type[Schema]) -> Schema:
        """Read a request that is a JSON object, off the event loop.

        Raises:
            RequestError: One of its kinds, naming the member that is meant.
        """
        limits = self.settings.request
        with self.bodies.account() as take:
            sent = await receive(request, limits, take, Job(limits.timeout_s))
            return await self.consult(read_members, sent, schema)

    async def probe(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a health probe off the event loop, without waiting behind requests.

        Raises:
            NotReady: It takes too long, or an earlier one still does.
        """
        running = asyncio.ensure_future(to_thread.run_sync(work, *arguments, limiter=self.probes))
        await asyncio.wait({running}, timeout=PROBE_S)
        if running.done():
            return running.result()
        running.add_done_callback(_forget)
        running.cancel()  # if it still waits for an earlier one; else it ends when the engine does
        raise NotReady(f"inference did not answer within {PROBE_S:g} s")


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


UsesBackend = Annotated[Backend, Depends(_backend)]


def written(answer: BaseModel, job: Job) -> Response:
    """Write an answer, with the stage times as the header `Server-Timing` (W3C), in milliseconds."""
    return Response(answer.model_dump_json(), media_type="application/json", headers=server_timing(job))


def server_timing(job: Job) -> dict[str, str]:
    """Return that header."""
    return {"Server-Timing": ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in job.milliseconds.items())}


@contextmanager
def _abandoned_when_left(request: Request, job: Job) -> Iterator[None]:
    """Abandon the job when the client closes its connection; its body must have been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.abandon()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()


def _forget(running: "asyncio.Future[Any]") -> None:
    """Take what nobody waits for any more, so that it is not reported as lost."""
    if not running.cancelled():
        running.exception()
