"""A service that answers clients of Amazon Rekognition, with a fake detector and engine, which need no weights."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fastapi.testclient import TestClient
from httpx2 import Response

from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.security.keys.protocols import REKOGNITION_SCOPES, access_key_id
from service.security.keys.store import KeyRequest, KeyStore
from service.settings import CompatSettings, Settings
from tests.client import Guarded, guarded_client

MEDIA_TYPE = "application/x-amz-json-1.1"


def rekognition_key(
    keys: KeyStore, galleries: list[str] | None = None, name: str = "app", **options: Any
) -> Credentials:
    """Make an access key."""
    key, token = keys.create(KeyRequest(name, REKOGNITION_SCOPES, galleries, protocol="rekognition", **options))
    return Credentials(access_key_id(key.id), token.text)


def signed(
    credentials: Credentials,
    operation: str,
    body: bytes,
    host: str = "localhost",
    method: str = "POST",
    path: str = "/",
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request as the AWS SDK for Python signs it."""
    headers = {
        "Host": host,
        "Content-Type": MEDIA_TYPE,
        "X-Amz-Target": f"RekognitionService.{operation}",
        **(more or {}),
    }
    request = AWSRequest(method, f"http://{host}{path}", headers, body)
    SigV4Auth(credentials, "rekognition", "eu-west-1").add_auth(request)
    return dict(request.headers.items())


class Caller:
    """Calls operations with an access key."""

    def __init__(self, client: TestClient, credentials: Credentials) -> None:
        self.client = client
        self.credentials = credentials

    def __call__(self, operation: str, **members: Any) -> Response:
        return self.send(operation, json.dumps(members).encode())

    def send(self, operation: str, body: bytes, **headers: str) -> Response:
        """Send a body, with headers that replace those that are signed."""
        sent = signed(self.credentials, operation, body) | {name.replace("_", "-"): to for name, to in headers.items()}
        return self.client.post("/", content=body, headers=sent)

    def ok(self, operation: str, **members: Any) -> Any:
        """Call an operation that must succeed, and return its answer."""
        answer = self(operation, **members)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == MEDIA_TYPE
        return answer.json()

    def index(self, photo: bytes, collection: str = "staff", **members: Any) -> list[str]:
        """Store the faces of a photo, and return their ids."""
        answer = self.ok("IndexFaces", CollectionId=collection, Image=image(photo), **members)
        return [record["Face"]["FaceId"] for record in answer["FaceRecords"]]


def image(photo: bytes) -> dict[str, str]:
    return {"Bytes": base64.b64encode(photo).decode()}


def refused(response: Response, kind: str, message: str = "", status: int = 400) -> None:
    """Check that a response is an error in the form that SDKs parse."""
    body = response.json()
    assert (response.status_code, body["__type"]) == (status, kind), response.text
    assert message in body["message"]
    assert response.headers["x-amzn-requestid"]


@pytest.fixture
def buckets(tmp_path: Path) -> Path:
    directory = tmp_path / "buckets"
    (directory / "photos").mkdir(parents=True)
    return directory


@pytest.fixture
def guarded(fake_models: Models, galleries: Galleries, tmp_path: Path, buckets: Path) -> Iterator[Guarded]:
    settings = Settings(compat=CompatSettings(rekognition=True, s3_directory=buckets))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        yield guarded


@pytest.fixture
def call(guarded: Guarded) -> Caller:
    return Caller(guarded.client, rekognition_key(guarded.keys))


@pytest.fixture
def staff(call: Caller) -> Caller:
    call.ok("CreateCollection", CollectionId="staff")
    return call
