"""A service that answers clients of CompreFace, with a fake detector and engine, which need no weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.security.keys.protocols import SERVICE_SCOPES, CompreFaceService
from service.security.keys.store import KeyRequest, KeyStore
from service.settings import CompatSettings, Settings
from tests.client import Guarded, guarded_client

SETTINGS = Settings(compat=CompatSettings(compreface=True))


def compreface_key(
    keys: KeyStore, service: CompreFaceService = "recognition", gallery: str = "staff", name: str = ""
) -> dict[str, str]:
    """Make a key of a service, and return the header with it."""
    galleries = [gallery] if service == "recognition" else None
    request = KeyRequest(
        name or f"{service} {gallery}", SERVICE_SCOPES[service], galleries, protocol="compreface", service=service
    )
    _, token = keys.create(request)
    return {"x-api-key": token.text}


class Caller:
    """Calls the API of CompreFace with a key."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def __call__(self, method: str, path: str, photo: bytes | None = None, **options: Any) -> Response:
        files = None if photo is None else {"file": ("image.jpg", photo, "image/jpeg")}
        return self.client.request(method, f"/api/v1/{path}", files=files, headers=self.headers, **options)

    def add(self, subject: str, photo: bytes) -> str:
        """Add an example, and return its id."""
        added = self("POST", "recognition/faces", photo, params={"subject": subject})
        assert added.status_code == 201, added.text
        image_id: str = added.json()["image_id"]
        return image_id


@pytest.fixture
def guarded(fake_models: Models, galleries: Galleries, tmp_path: Path) -> Iterator[Guarded]:
    with guarded_client(fake_models, galleries, tmp_path / "security", SETTINGS) as guarded:
        yield guarded


@pytest.fixture
def call(guarded: Guarded) -> Caller:
    return Caller(guarded.client, compreface_key(guarded.keys))


def refused(response: Response, status: int, code: int, message: str = "") -> None:
    """Check that a response is an error in CompreFace's form."""
    body = json.loads(response.content)
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert message in body["message"]
    assert set(body) == {"message", "code"}
