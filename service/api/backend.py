"""The state that routes share: models, galleries, settings, and bounded numbers of worker threads."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request, Response
from pydantic import BaseModel

from models.deadline import Deadline
from models.errors import EngineStopped
from models.serving.models import Models
from service.api.admission import Admission, BodyBudget
from service.api.intake.body import ReceivedRequest, receive, shutdown_as_error
from service.api.intake.members import read_members, time_limit
from service.errors import NotReady
from service.gallery.galleries import Galleries
from service.operations.reference_cache import ReferenceCache
from service.settings import Settings

PROBE_S = 5.0
"""Time limit of a health probe in seconds; a working engine meets it even if requests are queued."""

Answer = TypeVar("Answer")
Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Backend:
    """The shared state of the application.

    Attributes:
        models: The loaded models.
        settings: The settings of the service.
        galleries: The open galleries.
        references: Cache of embedded reference photos.
        admission: Admits requests that compute or wait to compute.
        bodies: Budget of the bytes that request bodies hold in memory.
        inference_workers: Limits the requests that compute at the same time.
        gallery_workers: Limits the requests that read or change galleries at the same time.
        probe_workers: Limits the health probes at the same time.
    """

    models: Models
    settings: Settings
    galleries: Galleries
    references: ReferenceCache
    admission: Admission
    bodies: BodyBudget
    inference_workers: anyio.CapacityLimiter
    gallery_workers: anyio.CapacityLimiter
    probe_workers: anyio.CapacityLimiter

    async def answer(
        self, request: Request, work: "Callable[[Backend, ReceivedRequest, Deadline], Response]"
    ) -> Response:
        """Admit a request, receive its body, and create the response in a worker thread.

        Args:
            request: The request.
            work: Reads the received request and returns the response; runs in a worker thread.

        Raises:
            MemberInvalid: The time limit in the header is invalid.
            MediaTypeUnsupported: The body is compressed.
            BodyIncomplete: The server delivered less than the client declared.
            BodyTooLarge: The body is larger than allowed.
            BodyTooSlow: The body did not arrive before the deadline.
            Overloaded: Too many requests are admitted, or their bodies fill the memory budget.
            DeadlineExceeded: The deadline passed.
            RequestCancelled: The client disconnected.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """
        limits = self.settings.request
        with self.admission.arrival() as arrived, self.bodies.account() as take:  # refused before the body is read
            deadline = Deadline(time_limit(request.headers, limits))
            received = await receive(request, limits, take, deadline)
            with _cancelled_on_disconnect(request, deadline):
                return await self.infer(deadline, work, self, received, deadline, arrived=arrived)

    async def infer(
        self,
        deadline: Deadline,
        work: Callable[..., Answer],
        *arguments: object,
        admitted: bool = False,
        arrived: object = None,
    ) -> Answer:
        """Run blocking work in an inference worker, and wait for it until the deadline.

        Work that outlives its deadline keeps its worker until it checks the deadline at its next step; otherwise more
        work would run than there are workers.

        Args:
            deadline: Deadline of the request.
            work: Blocking function to run.
            arguments: Arguments of the function.
            admitted: Whether the request was already admitted, as a stream is.
            arrived: What the admission yielded for a request whose body arrived.

        Raises:
            Overloaded: Too many requests are admitted.
            DeadlineExceeded: The deadline passed.
            RequestCancelled: The client disconnected.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """

        async def run() -> Answer:
            with self.admission.place(admitted, arrived):
                with anyio.move_on_after(deadline.remaining_s):  # ends the wait for a worker, not work that has started
                    return await to_thread.run_sync(work, *arguments, limiter=self.inference_workers)
                raise deadline.exceeded()

        running = asyncio.ensure_future(run())
        try:
            with shutdown_as_error():
                await asyncio.wait({running}, timeout=deadline.remaining_s)
        except EngineStopped:
            deadline.cancel()
            running.add_done_callback(_retrieve_exception)
            raise
        if running.done():
            return running.result()
        running.add_done_callback(_retrieve_exception)
        raise deadline.exceeded()

    async def call_gallery(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run blocking work in a gallery worker, so that it never waits behind inference.

        Raises:
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """
        with shutdown_as_error():
            return await to_thread.run_sync(work, *arguments, limiter=self.gallery_workers)

    async def read(self, request: Request, schema: type[Schema]) -> Schema:
        """Read a request whose body is a JSON object.

        Raises:
            RequestError: The request is invalid; the subclass says how, and `part` names the member.
            Overloaded: The bodies of requests fill the memory budget.
            EngineStopped: The service is shutting down.
        """
        limits = self.settings.request
        with self.bodies.account() as take:
            received = await receive(request, limits, take, Deadline(limits.timeout_s))
            return await self.call_gallery(read_members, received, schema)

    async def probe(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a health probe in the probe worker, so that it never waits behind requests.

        Raises:
            NotReady: The probe takes too long, or an earlier probe still runs.
            VultusError: The probe failed.
        """
        running = asyncio.ensure_future(to_thread.run_sync(work, *arguments, limiter=self.probe_workers))
        await asyncio.wait({running}, timeout=PROBE_S)
        if running.done():
            return running.result()
        running.add_done_callback(_retrieve_exception)
        running.cancel()  # cancels a probe that waits for its worker; a running probe continues
        raise NotReady(f"inference did not answer within {PROBE_S:g} s")


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


UsesBackend = Annotated[Backend, Depends(_backend)]


def json_response(content: BaseModel, deadline: Deadline) -> Response:
    """Return a JSON response with the stage times in the header `Server-Timing`."""
    return Response(content.model_dump_json(), media_type="application/json", headers=server_timing(deadline))


def server_timing(deadline: Deadline) -> dict[str, str]:
    """Return the header `Server-Timing` (W3C) with the milliseconds of each stage."""
    return {"Server-Timing": ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in deadline.stage_ms.items())}


@contextmanager
def _cancelled_on_disconnect(request: Request, deadline: Deadline) -> Iterator[None]:
    """Cancel the deadline if the client disconnects during the block; the body must already be received."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        deadline.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()


def _retrieve_exception(task: "asyncio.Future[Any]") -> None:
    """Mark the exception of an abandoned task as retrieved, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
