"""Recording of commands in the audit log."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from service.audit.records import COMMAND_LINE, Actor, Event
from service.security.keys.store import KeyStore
from service.security.opening import open_audit
from service.settings import load_settings

Record = Callable[[Sequence[Event]], None]
"""Records events; they are on the disk when it returns. It raises `AuditStopped` if they cannot be written."""


@contextmanager
def opened_keys() -> Iterator[KeyStore]:
    """Open the store of keys that the settings name."""
    settings = load_settings()
    keys = KeyStore(settings.security_dir, settings.security.secret_file)
    try:
        yield keys
    finally:
        keys.close()


@contextmanager
def audited(command: str, keys: KeyStore | None = None) -> Iterator[Record]:
    """Open the audit log, check that it can be written, and yield the function that records events of a command.

    Args:
        command: The command as the log names it, such as `vultus enrol`.
        keys: The store of keys, if it is open.

    Raises:
        AuditStopped: The log is required and cannot be written.
    """
    if keys is None:
        with opened_keys() as keys, audited(command, keys) as record:
            yield record
        return
    with open_audit(load_settings(), keys) as log:

        def record(events: Sequence[Event]) -> None:
            if log is not None:
                log.write(events, Actor(COMMAND_LINE, command))

        record(())
        yield record
