"""The server below the application: TLS, sockets, paths, proxies and limits, on real connections."""

import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
import uvicorn
from fastapi import FastAPI, Request

from service.settings import HttpSettings, Settings, SettingsInvalid, load_settings
from service.transport import CertificateWatch, _unix_socket, server_config


def told(app: FastAPI = FastAPI()) -> FastAPI:  # noqa: B008  # the application has no state
    @app.get("/told")
    def tell(request: Request) -> dict[str, Any]:
        """Tell what the server says of a request."""
        return {"client": request.client and request.client.host, "scheme": request.url.scheme, "url": str(request.url)}

    return app


@contextmanager
def served(http: HttpSettings, uds: Path | None = None) -> Iterator[int]:
    """Serve on a free port, or on a socket, until the block ends; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    config = server_config(told(), Settings(http=http), "127.0.0.1", port)
    watch = CertificateWatch(config, http)
    server = uvicorn.Server(config)
    with nullcontext() if uds is None else _unix_socket(uds) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": listener and [listener]})
        thread.start()
        until(lambda: server.started)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()
            watch.close()


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(certificate: trustme.LeafCert, directory: Path) -> HttpSettings:
    files = HttpSettings(tls_certificate=directory / "cert.pem", tls_key=directory / "key.pem")
    assert files.tls_certificate and files.tls_key
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    for path, content in ((files.tls_certificate, chain), (files.tls_key, certificate.private_key_pem.bytes())):
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)
    return files


def client_of(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> httpx2.Client:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return httpx2.Client(verify=context, trust_env=False)


def serial_of(port: int, authority: trustme.CA) -> str:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as encrypted,
    ):
        return str((encrypted.getpeercert() or {})["serialNumber"])


def test_a_certificate_is_served_and_read_again_when_it_changes(authority: trustme.CA, tmp_path: Path) -> None:
    http = write(authority.issue_cert("localhost"), tmp_path)
    with served(http) as port, client_of(authority) as client:
        assert client.get(f"https://localhost:{port}/told").json()["scheme"] == "https"
        first = serial_of(port, authority)
        assert http.tls_key is not None
        good = http.tls_key.read_bytes()
        http.tls_key.write_bytes(b"-----BEGIN half a file")  # as while it is being replaced
        time.sleep(2.5)
        assert serial_of(port, authority) == first
        http.tls_key.write_bytes(good)
        write(authority.issue_cert("localhost"), tmp_path)
        until(lambda: serial_of(port, authority) != first)
        assert client.get(f"https://localhost:{port}/told").status_code == 200  # the open connection goes on


def test_clients_need_a_certificate_if_an_authority_is_set(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    http = write(authority.issue_cert("localhost"), tmp_path).model_copy(update={"tls_client_ca": tmp_path / "ca.pem"})
    with served(http) as port:
        with client_of(authority, authority.issue_cert("door")) as known:
            assert known.get(f"https://localhost:{port}/told").status_code == 200
        for stranger in (None, trustme.CA().issue_cert("door")):
            with client_of(authority, stranger) as client, pytest.raises(httpx2.TransportError):
                client.get(f"https://localhost:{port}/told")


def test_plain_http_on_a_port_of_https_is_no_answer(authority: trustme.CA, tmp_path: Path) -> None:
    with served(write(authority.issue_cert("localhost"), tmp_path)) as port, pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://localhost:{port}/told", trust_env=False)


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("cert.pem", "missing.pem", "No such file"),
        ("key.pem", "key.pem", "not valid PEM"),
        ("cert.pem", "other.pem", "does not belong to the certificate"),
        ("cert.pem", "encrypted.pem", "encrypted with a password"),
        ("empty.pem", "key.pem", "not valid PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    authority: trustme.CA, tmp_path: Path, certificate: str, key: str, message: str
) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    write(authority.issue_cert("localhost"), tmp_path)
    (tmp_path / "empty.pem").touch()
    (tmp_path / "other.pem").write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    private = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    http = HttpSettings(tls_certificate=tmp_path / certificate, tls_key=tmp_path / key)
    with pytest.raises(SettingsInvalid, match=message):
        server_config(told(), Settings(http=http), "127.0.0.1", 0)


@pytest.mark.parametrize(
    "variables",
    [
        {"TLS_CERTIFICATE": "cert.pem"},
        {"TLS_KEY": "key.pem"},
        {"TLS_CLIENT_CA": "ca.pem"},
        {"TRUSTED_PROXIES": "proxy.example"},
        {"TRUSTED_PROXIES": "10.0.0.1/8"},
        {"ROOT_PATH": "faces"},
        {"ROOT_PATH": "/faces/"},
        {"MAX_CONNECTIONS": "0"},
        {"MAX_HEAD_BYTES": "10"},
        {"HEAD_S": "0"},
    ],
)
def test_impossible_settings_are_refused(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"VULTUS_HTTP__{name}", value)
    with pytest.raises(SettingsInvalid, match="VULTUS_HTTP"):
        load_settings()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "vultus.sock"
    with served(HttpSettings(), path):
        assert stat.S_ISSOCK(path.stat().st_mode)
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/told").json()["client"] is None


def test_a_path_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    file, path = tmp_path / "file", tmp_path / "s"
    file.write_text("precious")
    with pytest.raises(SettingsInvalid, match="is not a socket"), _unix_socket(file):
        pass
    assert file.read_text() == "precious"
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(SettingsInvalid, match="is not a socket"), _unix_socket(tmp_path / "link"):
        pass
    with served(HttpSettings(), path):
        with pytest.raises(SettingsInvalid, match="another process listens"), _unix_socket(path):
            pass
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/told").status_code == 200
    assert not path.exists()
    with pytest.raises(SettingsInvalid, match="cannot be listened on"), _unix_socket(tmp_path / "none" / "s"):
        pass


def test_a_socket_of_a_process_that_ended_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(path))
    with served(HttpSettings(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        path.unlink()
        path.write_text("of another process")
    assert path.read_text() == "of another process"


def test_only_a_trusted_proxy_states_the_client() -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    for proxies, client in (((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.7"), (("10.0.0.0/8",), "127.0.0.1")):
        with served(HttpSettings(trusted_proxies=proxies)) as port:
            answer = httpx2.get(f"http://127.0.0.1:{port}/told", headers=forwarded, trust_env=False).json()
            assert answer["client"] == client
            assert answer["scheme"] == ("https" if client == "203.0.113.7" else "http")


def test_a_root_path_is_part_of_addresses_and_not_of_routes() -> None:
    with served(HttpSettings(root_path="/faces")) as port:
        answer = httpx2.get(f"http://127.0.0.1:{port}/told", trust_env=False).json()
        assert answer["url"] == f"http://127.0.0.1:{port}/faces/told"


def test_connections_beyond_the_limit_are_told_and_others_go_on() -> None:
    with served(HttpSettings(max_connections=3)) as port:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as refused:
            answer = refused.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"too_many_connections" in answer
        held[0].sendall(b"GET /told HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200")
        for connection in held:
            connection.close()
        until(lambda: httpx2.get(f"http://127.0.0.1:{port}/told", trust_env=False).status_code == 200)


def test_more_connections_than_descriptors_do_not_stop_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (140, 140))
    config = server_config(told(), Settings(), "127.0.0.1", 0)
    assert config.http_protocol_class.keywords["limits"].connections == 12  # type: ignore[attr-defined]  # a partial


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.full)])
def test_opened_and_dropped_connections_leave_nothing(count: int) -> None:
    with served(HttpSettings()) as port:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # the descriptors themselves
        for number in range(count):
            with socket.create_connection(("127.0.0.1", port)) as dropped:
                if number % 2:
                    dropped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
                if number % 3:
                    dropped.sendall(b"GET /told HTTP/1.1\r\nHo"[: number % 20])
            if number % 500 == 0:
                assert httpx2.get(f"http://127.0.0.1:{port}/told", trust_env=False).status_code == 200
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208


def test_clients_that_send_a_byte_a_second_do_not_delay_others() -> None:
    with served(HttpSettings(head_s=1.0)) as port, ExitStack() as closed:
        slow = [closed.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(50)]
        for byte in b"GET /":
            for connection in slow:
                connection.sendall(bytes([byte]))
            assert httpx2.get(f"http://127.0.0.1:{port}/told", trust_env=False, timeout=5).status_code == 200
            time.sleep(0.05)
        assert [connection.recv(1) for connection in slow] == [b""] * 50  # their time has passed
