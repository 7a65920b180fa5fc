"""A port of its own for the metrics, for networks in which the key of the API does not reach Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from service.settings import SettingsInvalid


@contextmanager
def metrics_port(registry: CollectorRegistry, host: str, port: int) -> Iterator[None]:
    """Serve the metrics of a registry on a port until the block ends.

    Raises:
        SettingsInvalid: The port cannot be opened.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsInvalid(f"VULTUS_METRICS__PORT: {host}:{port} cannot be opened: {error.strerror}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
