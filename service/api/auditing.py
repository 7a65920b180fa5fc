"""Recording of requests in the audit log."""

from collections.abc import Sequence

import anyio
from anyio import to_thread
from fastapi import Request

from service.api.access import access_of
from service.audit.log import AuditLog
from service.audit.records import Actor, Event, Record
from service.errors import AuditOff
from service.metrics.instruments import Metrics

_OPEN = "open"
"""The key of a request to a service that needs none."""


class Auditor:
    """Records what requests did before they are answered, and counts it."""

    def __init__(self, log: AuditLog | None, metrics: Metrics) -> None:
        """Record in a log; None records nothing."""
        self._log = log
        self._metrics = metrics

    @property
    def is_stopped(self) -> bool:
        """Whether the log is required and its last record could not be written."""
        return self._log is not None and self._log.is_stopped

    def page(self, count: int, before: int | None) -> list[Record]:
        """Read the newest records, newest first, or the newest of those before a number.

        Raises:
            AuditOff: No log is kept.
            AuditUnfit: A file of the log is malformed.
            StoreFailed: The file system refused a read.
        """
        if self._log is None:
            raise AuditOff("this service keeps no audit log: VULTUS_AUDIT__LOG is off")
        return self._log.page(count, before)

    async def require_writable(self) -> None:
        """Refuse a change, before it is made, if it could not be recorded.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        if self._log is not None and self.is_stopped:
            await to_thread.run_sync(self._log.write, (), Actor(_OPEN, ""))

    async def record(self, request: Request, events: Sequence[Event]) -> None:
        """Record events in a worker thread.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        if events:  # recorded even if the client has left
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self.write, events, self.actor(request))

    def actor(self, request: Request) -> Actor:
        """Return who sends a request; for the thread of the event loop."""
        key = access_of(request).key
        return Actor(key.id if key else _OPEN, _route(request), request.state.request_id)

    def write(self, events: Sequence[Event], actor: Actor) -> None:
        """Record events in this thread, which must not be that of the event loop.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        if self._log is not None and events:
            self._log.write(events, actor)
        self._metrics.count_events(events)


def _route(request: Request) -> str:
    """Return the method and the template of the path, which has no names."""
    return f"{request.method} {request.scope['route'].path}"
