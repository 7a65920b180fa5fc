"""The audit log as the service writes it: records of concurrent requests share one commit."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from models.errors import VultusError
from service.audit.records import Actor, Event, content_of
from service.audit.store import AuditStore
from service.errors import AuditStopped

_log = logging.getLogger("vultus")


class _Pending(NamedTuple):
    """Records that wait for their commit."""

    contents: list[str]
    written: "Future[None]"


class AuditLog:
    """Appends records in a thread of its own. Thread-safe."""

    def __init__(
        self,
        store: AuditStore,
        required: bool = True,
        max_records: int = 1_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the thread.

        Args:
            store: Store of the records.
            required: Whether what cannot be recorded is refused; otherwise it is logged.
            max_records: Number of records in the table above which the older half is moved to a file.
            clock: Returns seconds since 1970.
        """
        self._store = store
        self._required = required
        self._max_records = max_records
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Pending] = []
        self._closing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def append(self, events: Sequence[Event], actor: Actor) -> "Future[None]":
        """Append records of events, or check without events that they could be appended.

        The future completes when the records are on the disk.

        The future fails with `AuditStopped` if they cannot be written and the log is required.
        """
        written: Future[None] = Future()
        contents = [content_of(event, actor, self._clock()) for event in events]
        with self._changed:
            if self._closing:
                written.set_exception(AuditStopped("the audit log is closed"))
                return written
            self._waiting.append(_Pending(contents, written))
            self._changed.notify()
        return written

    @property
    def is_stopped(self) -> bool:
        """Whether the log is required and its last record could not be written."""
        return self._required and self._stopped

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closing):
                    self._changed.wait()
                batch, self._waiting = self._waiting, []
            if not batch:
                return
            self._write(batch)

    def _write(self, batch: list[_Pending]) -> None:
        try:
            count = self._store.append([content for pending in batch for content in pending.contents])
            self._stopped = False
        except Exception as error:  # the thread must not end; whatever it is, nothing was recorded
            self._fail(batch, error)
            return
        for pending in batch:
            pending.written.set_result(None)
        if count > self._max_records:
            try:
                self._store.archive(self._max_records // 2)
            except VultusError as error:  # the records stay in the table, and are moved later
                _log.warning("older records of the audit log stay in its table: %s", error)

    def _fail(self, batch: list[_Pending], error: Exception) -> None:
        if not self._stopped:
            _log.error("the audit log cannot be written: %s: %s", type(error).__name__, error)
        self._stopped = True
        for pending in batch:
            if self._required:
                pending.written.set_exception(AuditStopped(f"the audit log cannot be written: {error}"))
            else:
                pending.written.set_result(None)
