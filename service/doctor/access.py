"""Checks of keys, addresses, encryption of connections, and the audit log."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509

from service.doctor.findings import Finding
from service.security.keys.server_secret import SECRET_FILE
from service.security.keys.store import ADMIN_KEY_FILE, STORE, Key, KeyStore
from service.settings import Settings
from service.times import written_time

_SOON = timedelta(days=30)
_UNUSED_S = 90 * 86400.0


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Check whether requests need a key, and which keys there are."""
    if settings.security.keys == "off":
        yield Finding(
            "keys_off",
            "warning",
            "requests need no key: whoever reaches the service may search, enrol and erase",
            "unset VULTUS_SECURITY__KEYS, unless a proxy in front checks every request",
        )
    secret = settings.security_dir / SECRET_FILE
    if not (settings.security_dir / STORE).exists() and not secret.exists():
        yield _no_key()
        return
    keys = KeyStore(settings.security_dir, settings.security.secret_file)
    try:
        found = keys.list_all()
    finally:
        keys.close()
    if not found:
        yield _no_key()
    if (settings.security_dir / ADMIN_KEY_FILE).exists():
        yield Finding(
            "admin_key_file",
            "note",
            f"the first key, which may do everything, is in the file {ADMIN_KEY_FILE}",
            "keep it in a password manager and delete the file, or revoke it: vultus keys revoke admin",
        )
    now = time.time()
    yield from _check_live([key for key in found if key.is_live(now)], now)


def _no_key() -> Finding:
    return Finding(
        "no_key",
        "note",
        "no key was made: a service on a loopback address is open to all programs and users of this machine",
        "vultus keys create NAME --scope verify,identify",
    )


def _check_live(keys: list[Key], now: float) -> Iterator[Finding]:
    for key in keys:
        used = key.last_used or key.created
        if key.expires is not None and key.expires - now < _SOON.total_seconds():
            yield Finding(
                "key_expires",
                "note",
                f"the key {key.id} ({key.name}) expires {written_time(key.expires)}",
                f"vultus keys rotate {key.id}",
            )
        elif now - used > _UNUSED_S:
            yield Finding(
                "key_unused",
                "note",
                f"the key {key.id} ({key.name}) was not used since {written_time(used)}",
                f"vultus keys revoke {key.id}",
            )


def check_connections(settings: Settings) -> Iterator[Finding]:
    """Check names, origins and the certificate."""
    http = settings.http
    for variable, value in (("TRUSTED_HOSTS", http.trusted_hosts), ("CORS_ORIGINS", http.cors_origins)):
        if "*" in value:
            yield Finding(
                variable.lower(),
                "warning",
                f"VULTUS_HTTP__{variable} is *, so that pages of any web site can send requests from a user's browser",
                f"name your own in VULTUS_HTTP__{variable}",
            )
    if http.tls_certificate is None:
        yield Finding(
            "no_tls",
            "note",
            "connections are not encrypted by the service",
            "set VULTUS_HTTP__TLS_CERTIFICATE and VULTUS_HTTP__TLS_KEY, or let a proxy on this machine do it",
        )
        return
    try:
        certificate = x509.load_pem_x509_certificate(http.tls_certificate.read_bytes())
    except (OSError, ValueError):
        yield Finding(
            "certificate_unfit",
            "warning",
            "the certificate cannot be read",
            "set VULTUS_HTTP__TLS_CERTIFICATE to a PEM file that the service may read",
        )
        return
    ends = certificate.not_valid_after_utc
    if ends - datetime.now(UTC) < _SOON:
        yield Finding(
            "certificate_expires",
            "warning",
            f"the certificate is valid until {ends.isoformat()}",
            "renew it and replace the files; the service reads them again by itself",
        )


def check_audit(settings: Settings) -> Iterator[Finding]:
    """Check whether acts are recorded."""
    if settings.audit.log != "required":
        yield Finding(
            "audit_not_required",
            "warning" if settings.audit.log == "off" else "note",
            f"VULTUS_AUDIT__LOG is {settings.audit.log}: acts may stay unrecorded",
            "unset VULTUS_AUDIT__LOG",
        )
