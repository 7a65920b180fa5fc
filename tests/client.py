"""A client of the application that names a host which the service trusts, from an address of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.serving.models import Models
from service.app import create_app
from service.audit.log import AuditLog
from service.audit.store import AuditStore
from service.gallery.galleries import Galleries
from service.security.guard import Guard, OpenTo
from service.security.keys.keyring import Keyring
from service.security.keys.store import KeyRequest, KeyStore
from service.security.keys.tokens import Token, _checksum
from service.security.scopes import Scope
from service.settings import Settings


def api_client(app: FastAPI, **options: Any) -> TestClient:
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000), **options)


class Guarded(NamedTuple):
    """A client of an application with keys, and the stores of its keys and its audit log."""

    client: TestClient
    keys: KeyStore
    audit: AuditStore

    def key(self, *scopes: Scope, name: str = "a", **options: Any) -> dict[str, str]:
        """Make a key, and return the header with it."""
        _, token = self.keys.create(KeyRequest(name, scopes, **options))
        return {"X-Api-Key": token.text}


@contextmanager
def guarded_client(
    models: Models,
    galleries: Galleries,
    directory: Path,
    settings: Settings | None = None,
    open_to: OpenTo = "nobody",
    **options: Any,
) -> Iterator[Guarded]:
    keys = KeyStore(directory)
    keyring = Keyring(keys)
    store = AuditStore(directory, keys.server_secret)
    log = AuditLog(store)
    app = create_app(models, galleries, settings or Settings(), Guard(keyring, open_to), keys, log)
    with api_client(app, **options) as client:
        yield Guarded(client, keys, store)
    log.close()
    store.close()
    keyring.close()
    keys.close()


def wrong_token_of(token: Token) -> str:
    """Return a well-formed key that has the id of another one."""
    begun = f"vultus_{token.id}_{'0' * 40}"
    return begun + _checksum(begun)
