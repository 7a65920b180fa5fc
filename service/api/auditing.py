"""Recording of requests in the audit log."""

import asyncio
from collections.abc import Sequence

from fastapi import Request

from service.api.access import access_of
from service.audit.log import AuditLog
from service.audit.records import Actor, Event

_OPEN = "open"
"""The key of a request to a service that needs none."""


class Auditor:
    """Records what requests did before they are answered."""

    def __init__(self, log: AuditLog | None) -> None:
        """Record in a log; None records nothing."""
        self._log = log

    async def require_writable(self) -> None:
        """Refuse a change, before it is made, if it could not be recorded.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        if self._log is not None and self._log.is_stopped:
            await asyncio.wrap_future(self._log.append((), Actor(_OPEN, "")))

    async def record(self, request: Request, events: Sequence[Event]) -> None:
        """Record events; they are on the disk when this returns.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        if self._log is None or not events:
            return
        key = access_of(request).key
        actor = Actor(key.id if key else _OPEN, _route(request), request.state.request_id)
        written = self._log.append(events, actor)
        await asyncio.shield(asyncio.wrap_future(written))  # what is done is recorded even if its client has left


def _route(request: Request) -> str:
    """Return the method and the template of the path, which has no names."""
    return f"{request.method} {request.scope['route'].path}"
