"""A client of the application that names a host which the service trusts."""

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient


def api_client(app: FastAPI, **options: Any) -> TestClient:
    return TestClient(app, base_url="http://localhost", **options)
