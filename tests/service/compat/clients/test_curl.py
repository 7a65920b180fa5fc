"""curl signs requests by an implementation of its own."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.service.compat.clients.running import Service


@pytest.fixture
def curl() -> str:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if tuple(map(int, version.split(".")[:2])) < (7, 86):
        pytest.skip(f"curl signs the operation since 7.86, and this is {version}")
    return program


def test_requests_that_curl_has_signed_are_answered(
    server: Service, aws_key: dict[str, Any], curl: str, collection_id: str
) -> None:
    def send(operation: str, body: str) -> Any:
        command = [curl, "--silent", "--noproxy", "*", server.url, "--aws-sigv4", "aws:amz:eu-central-1:rekognition"]
        command += ["--user", f"{aws_key['access_key_id']}:{aws_key['secret_access_key']}", "--data", body]
        command += ["--header", "Content-Type: application/x-amz-json-1.1"]
        command += ["--header", f"X-Amz-Target: RekognitionService.{operation}"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    body = json.dumps({"CollectionId": collection_id})
    assert send("CreateCollection", body)["StatusCode"] == 200
    assert send("CreateCollection", body)["__type"] == "ResourceAlreadyExistsException"
    assert collection_id in send("ListCollections", "{}")["CollectionIds"]
