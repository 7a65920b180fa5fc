"""Opening of what guards a service: its keys, who may do without one, and the audit log."""

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from service.audit.log import AuditLog
from service.audit.records import Actor, Event
from service.audit.store import AuditStore
from service.security.guard import Guard, OpenTo
from service.security.keys.first_start import make_admin_key
from service.security.keys.keyring import Keyring
from service.security.keys.store import KeyStore
from service.settings import Settings

_log = logging.getLogger("vultus")


class Security(NamedTuple):
    """What guards a service.

    Attributes:
        guard: Admits requests by their keys.
        keys: Store of the keys.
        audit: Log of what requests did; None if none is kept.
    """

    guard: Guard
    keys: KeyStore
    audit: AuditLog | None


@contextmanager
def open_security(settings: Settings, is_local: bool) -> Iterator[Security]:
    """Open the keys and the audit log, decide who needs a key, and close all at the end of the block.

    Args:
        settings: The settings.
        is_local: Whether only programs on this machine reach the service.

    Raises:
        ServerSecretUnfit: The server secret is malformed, or it is not the one of the stored keys.
        StoreUnfit: The file is not a store of keys, or a newer version wrote it.
        StorageFull: The disk is full.
        StoreBusy: Another process has locked the store.
        StoreFailed: The file system refused a read or write.
    """
    keys = KeyStore(settings.security_dir, settings.security.secret_file)
    try:
        open_to = _open_to(settings, is_local)
        first = make_admin_key(keys) if open_to == "nobody" else None
        keyring = Keyring(keys)
        try:
            if open_to == "everybody":
                _log.warning("VULTUS_SECURITY__KEYS is off: whoever reaches this service may do everything")
            elif open_to == "loopback" and keyring.is_empty:
                _log.info("programs on this machine need no key until the first one is made (`vultus keys create`)")
            with open_audit(settings, keys) as audit:
                if first is not None and audit is not None:
                    audit.write([Event("create_key", key=first.id)], Actor("first start", "vultus serve"))
                yield Security(Guard(keyring, open_to), keys, audit)
        finally:
            keyring.close()
    finally:
        keys.close()


@contextmanager
def open_audit(settings: Settings, keys: KeyStore) -> Iterator[AuditLog | None]:
    """Open the audit log, if one is kept, until the end of the block.

    Raises:
        StoreUnfit: The file is not an audit log, or a newer version wrote it.
        StorageFull: The disk is full.
        StoreBusy: Another process has locked the log.
        StoreFailed: The file system refused a read or write.
    """
    if settings.audit.log == "off":
        yield None
        return
    store = AuditStore(settings.security_dir, keys.server_secret)
    try:
        log = AuditLog(store, settings.audit.log == "required", settings.audit.max_records)
        try:
            yield log
        finally:
            log.close()
    finally:
        store.close()


def is_loopback(host: str) -> bool:
    """Return whether a service that listens at a host is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _open_to(settings: Settings, is_local: bool) -> OpenTo:
    if settings.security.keys == "off":
        return "everybody"
    return "loopback" if settings.security.keys == "auto" and is_local else "nobody"
