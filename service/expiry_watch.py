"""The watch of a service over what expires: it erases it within a minute, and records that it did."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from service.audit.log import AuditLog
from service.audit.records import Action, Actor, Event
from service.gallery.expiry import Expired, erase_expired
from service.gallery.galleries import Galleries

_INTERVAL_S = 15.0
_JUMP_S = 3600.0  # by which a clock that is set forward is not believed at once
_DISBELIEF_S = 3600.0  # for which it is not believed: its owner may set it back
_ACTOR = Actor("expiry", "expiry")

_log = logging.getLogger("vultus")


class ExpiryWatch:
    """A thread that erases what expires, from the start of the service on."""

    def __init__(
        self,
        galleries: Galleries,
        audit: AuditLog | None,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        interval_s: float = _INTERVAL_S,
        count: Callable[[Sequence[Event]], None] = lambda _: None,
    ) -> None:
        """Start the thread.

        Args:
            galleries: The open galleries.
            audit: Log in which erasures are recorded; None for none.
            clock: Returns seconds since 1970.
            uptime: Returns the seconds since the machine was started, also those in which it slept.
            interval_s: Time between two looks in seconds.
            count: Counts what was erased.
        """
        self._galleries = galleries
        self._audit = audit
        self._count = count
        self._clock = clock
        self._uptime = uptime
        self._interval_s = interval_s
        self._offset = clock() - uptime()
        self._believed_at: float | None = None
        self._jumped_to = self._offset
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="expiry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after its current erasures."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                if self._believes_clock():
                    self._erase()
            except Exception as error:  # whatever it is: the next look tries again
                _log.error("what has expired could not be erased: %s: %s", type(error).__name__, error)
            if self._closing.wait(self._interval_s):
                return

    def _erase(self) -> None:
        if self._audit is not None:
            self._audit.write((), _ACTOR)  # what cannot be recorded is not done
        count = 0
        for part in erase_expired(self._galleries, self._clock()):
            count += len(part)
            events = [_event(expired) for expired in part]
            if self._audit is not None:
                self._audit.write(events, _ACTOR)
            self._count(events)
            if self._closing.is_set():
                break
        if count:
            _log.info("erased %d subjects and templates whose time had come", count)

    def _believes_clock(self) -> bool:
        """Return whether the clock goes as the machine does; erasing too early could not be undone."""
        now = self._uptime()
        offset = self._clock() - now
        if offset <= self._offset + _JUMP_S:
            self._offset, self._believed_at = offset, None
            return True
        if self._believed_at is None or offset > self._jumped_to + _JUMP_S:
            self._jumped_to = offset
            self._believed_at = now + _DISBELIEF_S
            _log.warning(
                "the clock was set forward by %.1f hours: what expires is erased in an hour only, or after a restart",
                (offset - self._offset) / 3600,
            )
        if now < self._believed_at:
            return False
        self._offset, self._believed_at = offset, None
        return True


def _event(expired: Expired) -> Event:
    receipt = expired.receipt
    action: Action = "expire_subject" if receipt.what == "subject" else "expire_template"
    return Event(action, [expired.gallery], [expired.pseudonym], count=receipt.template_count)
