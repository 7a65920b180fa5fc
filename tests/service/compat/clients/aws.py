"""Clients of Amazon Rekognition for the service: boto3, and requests that are signed by hand."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx2
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.service.compat.clients.running import Service

REGION = "eu-central-1"  # any, since clients need one


@contextmanager
def boto_client(server: Service, key: dict[str, Any], attempts: int = 1, **options: Any) -> Iterator[Any]:
    """Yield a client of boto3 with an access key.

    Args:
        server: The service.
        key: The key as the command prints it.
        attempts: Maximum number of requests for a call.
        **options: Options of the client instead of the usual ones.
    """
    client = boto3.session.Session().client(
        **{
            "service_name": "rekognition",
            "endpoint_url": server.url,
            "region_name": REGION,
            "aws_access_key_id": key["access_key_id"],
            "aws_secret_access_key": key["secret_access_key"],
            "config": Config(retries={"mode": "standard", "total_max_attempts": attempts}, proxies={}),
            **options,
        }
    )
    try:
        yield client
    finally:
        client.close()


def signed_call(server: Service, key: dict[str, Any], operation: str, body: dict[str, Any] | bytes) -> httpx2.Response:
    """Send a request whose signature botocore computes, and return the response as it is on the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = AWSRequest("POST", f"{server.url}/", data=content)
    request.headers["Content-Type"] = "application/x-amz-json-1.1"
    request.headers["X-Amz-Target"] = f"RekognitionService.{operation}"
    SigV4Auth(Credentials(key["access_key_id"], key["secret_access_key"]), "rekognition", REGION).add_auth(request)
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return client.post(request.url, content=content, headers=dict(request.headers.items()))
