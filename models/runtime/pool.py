"""One session on each of several GPUs behind the interface of one."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from models.deadline import Deadline
from models.runtime.session import Arrays, Images, Session, SessionDescription


class SessionPool:
    """Sessions of one graph, of which each run takes one with the fewest runs in progress, in turn. Thread-safe.

    Attributes:
        members: The sessions.
    """

    def __init__(self, members: Sequence[Session]) -> None:
        """Take over at least one session."""
        self.members = tuple(members)
        self._running = [0] * len(self.members)
        self._last = -1
        self._changing = threading.Lock()

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """See `Session.run`."""
        with self._changing:
            order = [(self._last + turn) % len(self.members) for turn in range(1, len(self.members) + 1)]
            number = self._last = min(order, key=self._running.__getitem__)
            self._running[number] += 1
        try:
            return self.members[number].run(images, deadline)
        finally:
            with self._changing:
                self._running[number] -= 1

    def describe(self) -> SessionDescription:
        """Return the configuration of one session with the streams of all; the GPUs run the same graph the same way."""
        described = [member.describe() for member in self.members]
        return replace(described[0], streams=sum(one.streams for one in described))


def members_of(session: Session) -> tuple[Session, ...]:
    """Return the sessions of a pool, or the session itself."""
    return session.members if isinstance(session, SessionPool) else (session,)
