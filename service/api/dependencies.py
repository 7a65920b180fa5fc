"""What every operation needs: the models, the settings, and a bounded number of threads to compute in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request

from models.assembly import Models
from models.job import Job
from service.gallery.galleries import Galleries
from service.settings import Settings

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Backend:
    """What the application was made with."""

    models: Models
    settings: Settings
    galleries: Galleries
    threads: anyio.CapacityLimiter
    clerks: anyio.CapacityLimiter
    probes: anyio.CapacityLimiter

    async def compute(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run blocking work off the event loop, at most `request.concurrency` pieces at a time."""
        return await to_thread.run_sync(work, *arguments, limiter=self.threads)

    async def consult(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Read or change galleries off the event loop, without waiting behind inference."""
        return await to_thread.run_sync(work, *arguments, limiter=self.clerks)

    async def probe(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Run a health probe off the event loop, without waiting behind requests."""
        return await to_thread.run_sync(work, *arguments, limiter=self.probes)


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


UsesBackend = Annotated[Backend, Depends(_backend)]


def server_timing(job: Job) -> str:
    """Format stage times as the header `Server-Timing` (W3C), in milliseconds."""
    return ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in job.milliseconds.items())
