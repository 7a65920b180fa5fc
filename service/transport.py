"""The server below the application: address or socket, TLS, proxies and limits of connections."""

import logging
import resource
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.http_protocol import ConnectionLimits, HttpProtocol
from service.settings import HttpSettings, Settings, SettingsInvalid

_SOCKET_MODE = 0o660
_NOT_STARTED = 3  # exit status, as uvicorn's
_RELOAD_S = 2.0  # interval at which the files of the certificate are looked at
_OTHER_DESCRIPTORS = 128  # of stores, snapshots, packs and engines

_log = logging.getLogger("vultus")


def server_config(app: FastAPI, settings: Settings, host: str, port: int) -> uvicorn.Config:
    """Return the configuration of the server.

    Args:
        app: The application.
        settings: The settings.
        host: Address to listen on.
        port: Port to listen on; 0 selects a free port.

    Raises:
        SettingsInvalid: A file of the certificate cannot be used.
    """
    http = settings.http
    limits = ConnectionLimits(min(http.max_connections, _usable_descriptors()), http.max_head_bytes, http.head_s)
    encrypted: dict[str, Any] = {}
    if http.tls_certificate is not None:
        context = _tls_context(http)
        encrypted = {"ssl_context_factory": lambda *_: context, "ssl_certfile": http.tls_certificate}
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(HttpProtocol, limits=limits),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        access_log=False,
        log_config=None,  # its lines have the form of all others
        server_header=False,
        root_path=http.root_path,
        proxy_headers=bool(http.trusted_proxies),
        forwarded_allow_ips=list(http.trusted_proxies),
        timeout_graceful_shutdown=settings.request.shutdown_s,
        timeout_keep_alive=http.keep_alive_s,
        **encrypted,
    )
    config.load()
    return config


class _DrainingServer(uvicorn.Server):
    """A server that goes on for a while when it is told to stop."""

    def __init__(self, config: uvicorn.Config, drain_s: float, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the first SIGTERM only after the time for which the server still accepts requests."""
        self._drain()
        if sig != signal.SIGTERM or not self._drain_s:
            super().handle_exit(sig, frame)
            return
        _log.info("told to stop: accepting requests for %g s more, while /readyz fails", self._drain_s)
        timer = threading.Timer(self._drain_s, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()
        self._drain_s = 0  # a second signal stops at once


def run_server(config: uvicorn.Config, path: Path | None, drain_s: float, drain: Callable[[], None]) -> None:
    """Serve until the process is told to stop.

    Args:
        config: Configuration of the server.
        path: Unix socket to listen on, instead of the address of the configuration.
        drain_s: Seconds for which requests are still accepted after SIGTERM.
        drain: Called when the process is told to stop.

    Raises:
        SettingsInvalid: The path cannot be listened on.
    """
    server = _DrainingServer(config, drain_s, drain)
    with nullcontext() if path is None else _unix_socket(path) as listener, suppress(KeyboardInterrupt):
        # uvicorn has ended the requests when it raises the signal again
        server.run(sockets=None if listener is None else [listener])
    if not server.started:
        sys.exit(_NOT_STARTED)


@contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket, and remove it at the end of the block, unless it is another one by then.

    Raises:
        SettingsInvalid: Something else is at the path, a process listens there, or the path cannot be listened on.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(_SOCKET_MODE)
            inode = path.stat().st_ino
        except OSError as error:
            raise SettingsInvalid(f"--uds: {path} cannot be listened on: {error.strerror or error}") from error
        _log.info("Uvicorn running on unix:%s (Press CTRL+C to quit)", path)
        try:
            yield listener
        finally:
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that has ended.

    Raises:
        SettingsInvalid: Something else is at the path, or a process listens there.
        OSError: The file system refused it.
    """
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_symlink() or not path.is_socket():
        raise SettingsInvalid(f"--uds: {path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise SettingsInvalid(f"--uds: another process listens on {path}")


class CertificateWatch:
    """Reads the files of a certificate again when they change; connections that are open keep the old one."""

    def __init__(self, config: uvicorn.Config, http: HttpSettings) -> None:
        """Begin to watch; without TLS, there is nothing to watch.

        Args:
            config: Configuration of the server, which was loaded.
            http: The settings of the files.
        """
        self._context = config.ssl
        self._http = http
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if self._context is not None:
            self._seen = self._state()
            self._thread = threading.Thread(target=self._watch, name="certificate", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the watch."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(_RELOAD_S):
            state = self._state()
            if state == self._seen:
                continue
            self._seen = state
            try:
                _tls_context(self._http)  # so that files that do not belong together change nothing
                assert self._context is not None and self._http.tls_certificate is not None
                self._context.load_cert_chain(self._http.tls_certificate, self._http.tls_key)
                _log.info("the certificate was read again")
            except (SettingsInvalid, OSError) as error:
                _log.error("the certificate was changed and cannot be used, so the old one stays: %s", error)

    def _state(self) -> list[tuple[int, int] | None]:
        """Return what changes when a file does."""
        states: list[tuple[int, int] | None] = []
        for path in (self._http.tls_certificate, self._http.tls_key):
            states.append(None)
            if path is not None:
                with suppress(OSError):  # a file that is being replaced
                    found = path.stat()
                    states[-1] = (found.st_mtime_ns, found.st_ino)
        return states


def _tls_context(http: HttpSettings) -> ssl.SSLContext:
    """Return the TLS context of the configured files.

    Raises:
        SettingsInvalid: A file cannot be read, or the certificate and the key do not belong together.
    """
    assert http.tls_certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(http.tls_certificate, http.tls_key, _no_password)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(
            f"VULTUS_HTTP__TLS_CERTIFICATE and VULTUS_HTTP__TLS_KEY cannot be used: {_reason(error)}"
        ) from error
    if http.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(http.tls_client_ca)
        except (OSError, ValueError) as error:
            raise SettingsInvalid(f"VULTUS_HTTP__TLS_CLIENT_CA cannot be used: {_reason(error)}") from error
    return context


def _no_password() -> str:
    """Refuse a key that is encrypted; OpenSSL would ask for its password on the terminal."""
    raise ValueError("the private key is encrypted with a password; store it without one, readable by its owner only")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        reasons = {"KEY_VALUES_MISMATCH": "the private key does not belong to the certificate"}
        return reasons.get(error.reason, f"a file is not valid PEM ({error.reason})")
    if isinstance(error, OSError):
        return f"a file cannot be read: {error.strerror}"
    return str(error)


def _usable_descriptors() -> int:
    """Raise the limit of open files as far as the system allows, and return how many may be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(1, soft - _OTHER_DESCRIPTORS) if soft != resource.RLIM_INFINITY else 2**31
