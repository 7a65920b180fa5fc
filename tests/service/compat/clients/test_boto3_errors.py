"""boto3's client of Amazon Rekognition: errors are the exceptions of the client, and only what may pass is repeated."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.exceptions import ClientError

from tests.service.compat.clients.aws import boto_client, signed_call
from tests.service.compat.clients.running import Album, Service

UNKNOWN = "00000000-0000-0000-0000-000000000000"


def image(photo: Path) -> dict[str, Any]:
    return {"Bytes": photo.read_bytes()}


def code_of(error: ClientError) -> str:
    code: str = error.response["Error"]["Code"]
    return code


def test_errors_are_the_exceptions_of_the_client(rekognition: Any, collection_id: str, album: Album) -> None:
    ann, errors, here = image(album.people[0][0]), rekognition.exceptions, {"CollectionId": collection_id}
    for call, options in (
        (rekognition.describe_collection, {}),
        (rekognition.delete_collection, {}),
        (rekognition.list_faces, {}),
        (rekognition.index_faces, {"Image": ann}),
        (rekognition.search_faces_by_image, {"Image": ann}),
        (rekognition.list_users, {}),
    ):
        with pytest.raises(errors.ResourceNotFoundException):
            call(**here, **options)
    rekognition.create_collection(**here)
    with pytest.raises(errors.ResourceAlreadyExistsException):
        rekognition.create_collection(**here)
    with pytest.raises(errors.ResourceNotFoundException):
        rekognition.create_user(CollectionId="tenant-missing", UserId="ann")
    with pytest.raises(errors.ResourceNotFoundException):
        rekognition.delete_user(**here, UserId="nobody")
    for search in (rekognition.search_faces, rekognition.search_users):
        with pytest.raises(errors.InvalidParameterException, match="faceId was not found in the collection"):
            search(**here, FaceId=UNKNOWN)
    rekognition.create_user(**here, UserId="ann")
    with pytest.raises(errors.ConflictException):
        rekognition.create_user(**here, UserId="ann")
    with pytest.raises(errors.InvalidPaginationTokenException):
        rekognition.list_faces(**here, NextToken="nonsense")
    with pytest.raises(errors.AccessDeniedException):
        rekognition.create_collection(CollectionId="elsewhere")


def test_errors_of_photos_are_the_exceptions_of_the_client(rekognition: Any, collection_id: str, album: Album) -> None:
    ann, nobody, errors = image(album.people[0][0]), image(album.nobody), rekognition.exceptions
    rekognition.create_collection(CollectionId=collection_id)
    with pytest.raises(errors.InvalidParameterException, match="no faces in the image"):
        rekognition.search_faces_by_image(CollectionId=collection_id, Image=nobody)
    with pytest.raises(errors.InvalidParameterException, match="no faces in the image"):
        rekognition.compare_faces(SourceImage=ann, TargetImage=nobody)
    with pytest.raises(errors.InvalidImageFormatException):
        rekognition.detect_faces(Image={"Bytes": b"no photo at all"})
    with pytest.raises(errors.ImageTooLargeException):
        rekognition.detect_faces(Image={"Bytes": bytes(5 * 2**20 + 1)})
    with pytest.raises(errors.ImageTooLargeException):
        rekognition.detect_faces(Image={"Bytes": bytes(24 * 2**20)})
    with pytest.raises(errors.InvalidParameterException, match="Bytes or S3Object"):
        rekognition.detect_faces(Image={})
    with pytest.raises(errors.InvalidParameterException, match="SimilarityThreshold"):
        rekognition.compare_faces(SourceImage=ann, TargetImage=ann, SimilarityThreshold=101)


def test_an_error_has_the_id_of_its_request(rekognition: Any) -> None:
    with pytest.raises(ClientError) as failed:
        rekognition.describe_collection(CollectionId="tenant-missing")
    metadata = failed.value.response["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 400
    assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
    assert metadata["RetryAttempts"] == 0
    assert failed.value.response["Error"]["Message"] == "The collection does not exist."


def test_an_operation_that_is_not_supported_is_unknown(rekognition: Any, album: Album) -> None:
    with pytest.raises(ClientError) as failed:
        rekognition.detect_labels(Image=image(album.nobody))
    assert code_of(failed.value) == "UnknownOperationException"


def test_wrong_keys_secrets_and_clocks_are_refused(
    server: Service, aws_key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(key: dict[str, Any]) -> str:
        with boto_client(server, key) as client, pytest.raises(ClientError) as failed:
            client.list_collections()
        return code_of(failed.value)

    assert refusal({**aws_key, "secret_access_key": "0" * 40}) == "InvalidSignatureException"
    assert refusal({**aws_key, "access_key_id": "AKIAIOSFODNN7EXAMPLE"}) == "UnrecognizedClientException"
    assert refusal({**aws_key, "access_key_id": "VULTUSAK" + "0" * 12}) == "UnrecognizedClientException"
    late = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=20)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: late)
    assert refusal(aws_key) == "InvalidSignatureException"


def test_a_key_ends_at_once_when_it_is_revoked(server: Service) -> None:
    key = server.key("--aws")
    with boto_client(server, key) as client:
        client.list_collections()
        server.revoke(key)
        with pytest.raises(ClientError) as failed:
            client.list_collections()
    assert code_of(failed.value) == "UnrecognizedClientException"


def test_throttled_calls_are_repeated_by_the_client(server: Service) -> None:
    key = server.key("--aws", "--rate", "1/s")
    with boto_client(server, key) as client, boto_client(server, key, attempts=8) as patient:
        with pytest.raises(client.exceptions.ThrottlingException):
            for _ in range(9):
                client.list_collections()
        assert any(patient.list_collections()["ResponseMetadata"]["RetryAttempts"] for _ in range(9))


def test_the_credentials_of_a_session_need_no_token_and_one_does_no_harm(
    server: Service, aws_key: dict[str, Any]
) -> None:
    with boto_client(server, aws_key, aws_session_token="anything") as client:
        assert client.list_collections()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_the_address_and_the_key_may_be_in_the_environment(
    server: Service, aws_key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of a program needs to change."""
    for name, value in {
        "AWS_ENDPOINT_URL_REKOGNITION": server.url,
        "AWS_ACCESS_KEY_ID": aws_key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": aws_key["secret_access_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("rekognition")
    assert "CollectionIds" in client.list_collections()
    client.close()


def test_a_body_that_is_no_json_is_refused_as_such(server: Service, aws_key: dict[str, Any]) -> None:
    refused = signed_call(server, aws_key, "ListCollections", b"{")
    assert (refused.status_code, json.loads(refused.content)["__type"]) == (400, "SerializationException")
    assert refused.headers["content-type"] == "application/x-amz-json-1.1"
