"""The state that routes share: models, galleries, settings, and bounded numbers of worker threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request, Response
from pydantic import BaseModel

from models.deadline import Deadline
from models.serving.models import Models
from service.api.access import access_of, client_of
from service.api.admission import Admission, Arrival, BodyBudget
from service.api.auditing import Auditor
from service.api.intake.body import ReceivedRequest, receive, shutdown_as_error
from service.api.intake.members import read_members, time_limit
from service.api.request_state import DEADLINE, TRACE
from service.api.workers import cancelled_on_disconnect, in_worker, retrieve_exception, until_deadline
from service.audit.records import Event
from service.errors import NotReady
from service.gallery.galleries import Galleries
from service.metrics.instruments import Metrics
from service.operations.reference_cache import ReferenceCache
from service.security.guard import Guard
from service.settings import Settings

PROBE_S = 5.0
"""Time limit of a health probe in seconds; a working engine meets it even if requests are queued."""

Answer = TypeVar("Answer")
Prepared = TypeVar("Prepared")
Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Backend:
    """The shared state of the application.

    Attributes:
        models: The loaded models.
        settings: The settings of the service.
        galleries: The open galleries.
        references: Cache of embedded reference photos.
        guard: Admits requests by their keys.
        auditor: Records what requests did.
        metrics: Counts what requests did.
        draining: Set when the service is told to stop; it then answers for a while as before, and is not ready.
        admission: Admits requests that compute or wait to compute.
        bodies: Budget of the bytes that request bodies hold in memory.
        inference_workers: Limits the requests that compute at the same time.
        stream_workers: Limits the streams whose lines compute at the same time, so that requests find free workers.
        gallery_workers: Limits the requests that read galleries at the same time.
        store_workers: Limits the requests that change galleries, or wait to change them, at the same time.
        upkeep_workers: Limits the checks of galleries at the same time, which wait for index builds.
        probe_workers: Limits the health probes at the same time.
    """

    models: Models
    settings: Settings
    galleries: Galleries
    references: ReferenceCache
    guard: Guard
    auditor: Auditor
    metrics: Metrics
    draining: threading.Event
    admission: Admission
    bodies: BodyBudget
    inference_workers: anyio.CapacityLimiter
    stream_workers: anyio.CapacityLimiter
    gallery_workers: anyio.CapacityLimiter
    store_workers: anyio.CapacityLimiter
    upkeep_workers: anyio.CapacityLimiter
    probe_workers: anyio.CapacityLimiter

    async def answer(self, request: Request, work: "Callable[[Backend, ReceivedRequest, Deadline], Answer]") -> Answer:
        """Admit a request, receive its body, and create the response in a worker thread.

        Args:
            request: The request.
            work: Reads the received request and returns the response; runs in an inference worker.

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
        async with self._admitted(request) as (received, deadline, arrived):
            actor = self.auditor.actor(request)

            def work_and_record() -> Answer:  # in one worker, because a change of threads takes longer than the record
                answer = work(self, received, deadline)
                self.auditor.write(received.events, actor)
                return answer

            return await self.infer(deadline, work_and_record, arrived=arrived)

    async def answer_change(
        self,
        request: Request,
        prepare: "Callable[[Backend, ReceivedRequest, Deadline], Prepared]",
        store: "Callable[[Backend, Prepared, ReceivedRequest, Deadline], Answer]",
    ) -> Answer:
        """Admit a request, receive its body, compute, and change galleries.

        Args:
            request: The request.
            prepare: Reads the received request and computes; runs in an inference worker.
            store: Changes the store and returns the response; runs in a store worker, so that no place of inference is
                held while other writers are busy.

        Raises:
            VultusError: As `answer` and `change`.
        """
        async with self._admitted(request) as (received, deadline, arrived):
            await self.auditor.require_writable()
            prepared = await self.infer(deadline, prepare, self, received, deadline, arrived=arrived)
            self.guard.recheck(access_of(request))
            actor = self.auditor.actor(request)

            def store_and_record() -> Answer:
                answer = store(self, prepared, received, deadline)
                self.auditor.write(received.events, actor)
                return answer

            return await self.change(deadline, store_and_record)

    @asynccontextmanager
    async def _admitted(self, request: Request) -> AsyncIterator[tuple[ReceivedRequest, Deadline, Arrival]]:
        client = client_of(request)
        with (
            self.admission.arrival(client) as arrived,
            self.bodies.account(client=client) as account,
        ):  # before the body is read

            def take(size: int) -> None:
                self.admission.begin(arrived)
                account.take(size)

            deadline = self.deadline(request)
            received = await receive(request, self.settings.request, take, deadline)
            self.guard.recheck(access_of(request))  # a body may take long to arrive
            with cancelled_on_disconnect(request, deadline):
                yield received, deadline, arrived

    async def infer(
        self,
        deadline: Deadline,
        work: Callable[..., Answer],
        *arguments: object,
        arrived: Arrival | None = None,
    ) -> Answer:
        """Run blocking work in an inference worker, and wait for it until the deadline.

        Work that outlives its deadline keeps its worker until it checks the deadline at its next step; otherwise more
        work would run than there are workers.

        Args:
            deadline: Deadline of the request.
            work: Blocking function to run.
            arguments: Arguments of the function.
            arrived: What the admission yielded for a request whose body arrived.

        Raises:
            Overloaded: Too many requests are admitted.
            DeadlineExceeded: The deadline passed.
            RequestCancelled: The client disconnected.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """

        async def run() -> Answer:
            with self.admission.place(arrived=arrived):
                return await in_worker(deadline, self.inference_workers, work, arguments)

        return await until_deadline(deadline, run())

    async def infer_lines(self, deadline: Deadline, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run blocking work on lines of an admitted stream like `infer`; it waits for its turn and is never refused.

        Raises:
            DeadlineExceeded: The deadline passed.
            RequestCancelled: The client disconnected.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """

        async def run() -> Answer:
            async with self.stream_workers:
                with self.admission.place(admitted=True):
                    return await in_worker(deadline, self.inference_workers, work, arguments)

        answer = await until_deadline(deadline, run())
        self.metrics.observe_stages(deadline.stage_ms)
        return answer

    async def change(self, deadline: Deadline, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a change of galleries in a store worker, and wait for it until the deadline, or until it is complete.

        The work settles the deadline before it changes the store. Nothing is changed if this raises `DeadlineExceeded`.

        Args:
            deadline: Deadline of the request.
            work: Blocking function to run.
            arguments: Arguments of the function.

        Raises:
            DeadlineExceeded: The deadline passed while other writers were busy.
            RequestCancelled: The client disconnected while other writers were busy.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """
        return await until_deadline(deadline, in_worker(deadline, self.store_workers, work, arguments))

    async def change_for(
        self, request: Request, deadline: Deadline, work: Callable[[Deadline], tuple[Answer, Event]]
    ) -> Answer:
        """Run the change of a request whose body is received like `change`, and record it in the same worker.

        Args:
            request: The request.
            deadline: Deadline of the request.
            work: Blocking function to run; returns the answer, and what is to be recorded.

        Raises:
            AuditStopped: The change could not be recorded; nothing was changed, unless the log failed at this moment.
            VultusError: As `change`.
        """
        await self.auditor.require_writable()
        actor = self.auditor.actor(request)

        def work_and_record() -> Answer:
            answer, event = work(deadline)
            self.auditor.write([event], actor)
            return answer

        with cancelled_on_disconnect(request, deadline):
            return await self.change(deadline, work_and_record)

    async def check(self, request: Request, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a check of galleries in an upkeep worker, without a time limit.

        The last argument of the work is a deadline, which is cancelled if the client disconnects.

        Raises:
            RequestCancelled: The client disconnected.
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """
        deadline = Deadline()
        with cancelled_on_disconnect(request, deadline):
            return await until_deadline(
                deadline, in_worker(deadline, self.upkeep_workers, work, (*arguments, deadline))
            )

    def deadline(self, request: Request) -> Deadline:
        """Start the time limit of a request.

        Raises:
            MemberInvalid: The time limit in the header is invalid.
        """
        limit_s = time_limit(request.headers, self.settings.request)
        deadline = Deadline(limit_s, observer=request.scope["state"].get(TRACE))
        request.scope["state"][DEADLINE] = deadline
        return deadline

    async def call_gallery(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run blocking work that only reads in a gallery worker, so that it never waits behind inference or writers.

        Raises:
            EngineStopped: The service is shutting down.
            VultusError: The work failed.
        """
        with shutdown_as_error():
            return await to_thread.run_sync(work, *arguments, limiter=self.gallery_workers)

    async def read(self, request: Request, schema: type[Schema], deadline: Deadline) -> Schema:
        """Read a request whose body is a JSON object.

        Raises:
            RequestError: The request is invalid; the subclass says how, and `part` names the member.
            BodyTooSlow: The body did not arrive before the deadline.
            Overloaded: The bodies of requests fill the memory budget.
            EngineStopped: The service is shutting down.
        """
        limits = self.settings.request
        with self.bodies.account(client=client_of(request)) as account:
            received = await receive(request, limits, account.take, deadline)
            self.guard.recheck(access_of(request))
            return await self.call_gallery(read_members, received, schema)

    async def probe(self, work: Callable[..., Answer], *arguments: object, what: str = "inference") -> Answer:
        """Run a health probe in the probe worker, so that it never waits behind requests.

        Args:
            work: Blocking function to run.
            arguments: Arguments of the function.
            what: What is probed, as the message names it.

        Raises:
            NotReady: The probe takes too long, or an earlier probe still runs.
            VultusError: The probe failed.
        """
        running = asyncio.ensure_future(to_thread.run_sync(work, *arguments, limiter=self.probe_workers))
        await asyncio.wait({running}, timeout=PROBE_S)
        if running.done():
            return running.result()
        running.add_done_callback(retrieve_exception)
        running.cancel()  # cancels a probe that waits for its worker; a running probe continues
        raise NotReady(f"{what} did not answer within {PROBE_S:g} s")


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
