"""The audit log as the service writes it: records of concurrent requests share one commit."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.audit.records import Actor, Event, Record, content_of
from service.audit.store import AuditStore
from service.errors import AuditStopped

_COMPARISONS = ("verify", "identify")
_SYNC_S = 1.0  # after which records of comparisons are on the disk

_log = logging.getLogger("vultus")


@dataclass(slots=True, eq=False)
class _Pending:
    """Records that wait for their commit.

    Attributes:
        contents: Contents of the records.
        durable: Whether they must be on the disk before their act is answered.
        is_settled: Whether they are committed, or failed.
        error: Why they could not be committed.
    """

    contents: list[str]
    durable: bool
    is_settled: bool = False
    error: AuditStopped | None = None


class AuditLog:
    """Appends records. Thread-safe: of threads that write at the same time, one commits for all."""

    def __init__(
        self,
        store: AuditStore,
        required: bool = True,
        max_records: int = 1_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the thread that flushes records of comparisons to disk.

        Args:
            store: Store of the records.
            required: Whether what cannot be recorded is refused; otherwise it is logged.
            max_records: Number of records in the table above which the older half is moved to a file.
            clock: Returns seconds since 1970.
        """
        self._store = store
        self._required = required
        self._max_records = self._archive_above = max_records
        self._clock = clock
        self._queueing = threading.Lock()
        self._committing = threading.Lock()
        self._waiting: list[_Pending] = []
        self._stopped = False
        self._unsynced_since: float | None = None  # when comparisons were committed that may not be on the disk yet
        self._closing = threading.Event()
        self._flusher = threading.Thread(target=self._flush_often, name="audit", daemon=True)
        self._flusher.start()

    def write(self, events: Sequence[Event], actor: Actor) -> None:
        """Append records of events, or check without events that they could be appended.

        Records of changes are on the disk when this returns, those of comparisons within a second; all of them survive
        the end of the process.

        Raises:
            AuditStopped: The log is required and cannot be written.
        """
        at = self._clock()
        durable = any(event.action not in _COMPARISONS for event in events)
        pending = _Pending([content_of(event, actor, at) for event in events], durable)
        with self._queueing:
            self._waiting.append(pending)
        with self._committing:  # while another thread commits, more records gather for the next commit
            if not pending.is_settled:
                self._commit()
        if pending.error is not None and self._required:
            raise pending.error

    def page(self, count: int, before: int | None = None) -> list[Record]:
        """Read the newest records that are committed; as that of the store."""
        return self._store.page(count, before)

    @property
    def lag_s(self) -> float:
        """Seconds for which the oldest record is committed and not safe from a loss of power; 0 if all are safe."""
        since = self._unsynced_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    @property
    def is_stopped(self) -> bool:
        """Whether the log is required and its last record could not be written."""
        return self._required and self._stopped

    def close(self) -> None:
        """Flush all records to disk, and end the thread."""
        self._closing.set()
        self._flusher.join()
        self._flush()

    def _flush_often(self) -> None:
        while not self._closing.wait(_SYNC_S):
            self._flush()

    def _flush(self) -> None:
        with self._committing:
            if self._unsynced_since is not None:
                self._commit(durable=True)

    def _commit(self, durable: bool = False) -> None:
        """Append all waiting records in one transaction; the caller holds the lock of commits."""
        with self._queueing:
            batch, self._waiting = self._waiting, []
        durable = durable or not any(pending.contents for pending in batch) or any(each.durable for each in batch)
        try:
            count = self._store.append([content for pending in batch for content in pending.contents], durable)
            self._stopped = False
            self._unsynced_since = None if durable else self._unsynced_since or time.monotonic()
        except Exception as error:  # whatever it is, nothing was recorded, and nobody may wait for ever
            self._fail(batch, error)
            return
        for pending in batch:
            pending.is_settled = True
        if count > self._archive_above:
            try:
                self._store.archive(self._max_records // 2)
                self._archive_above = self._max_records
            except Exception as error:  # the records stay in the table, and are moved later
                self._archive_above = count + max(1, self._max_records // 100)
                _log.warning("older records of the audit log stay in its table: %s", error)

    def _fail(self, batch: list[_Pending], error: Exception) -> None:
        if not self._stopped:
            _log.error("the audit log cannot be written: %s: %s", type(error).__name__, error)
        self._stopped = True
        for pending in batch:
            pending.error = AuditStopped(f"the audit log cannot be written: {error}")
            pending.is_settled = True
