"""Signatures as the AWS SDK for Python makes them, and what is wrong with others."""

import calendar
import time
from collections.abc import Mapping

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.compat.rekognition.signature import (
    MAX_SKEW_S,
    claimed_digest,
    digest_of,
    read_signature,
    require_recent,
    require_signature,
)
from service.errors import SignatureExpired, SignatureMalformed, SignatureMissing, SignatureWrong

CREDENTIALS = Credentials("VULTUSAK000000000000", "secret" * 6)
BODY = b'{"CollectionId": "staff"}'
TARGET = "RekognitionService.ListFaces"


def _signed(
    path: str = "/", headers: Mapping[str, str] | None = None, body: bytes = BODY, service: str = "rekognition"
) -> Headers:
    sent = {"Host": "faces.example", "X-Amz-Target": TARGET, **(headers or {})}
    request = AWSRequest("POST", f"http://faces.example{path}", sent, body)
    SigV4Auth(CREDENTIALS, service, "eu-west-1").add_auth(request)
    return Headers(dict(request.headers.items()))


def _check(headers: Headers, body: bytes = BODY, secret: str = CREDENTIALS.secret_key, query: str = "") -> None:
    digest = digest_of([body[:3], body[3:]])
    require_signature(read_signature(headers), secret, "POST", "/", query, headers, digest)


def test_a_request_that_the_sdk_signed_is_accepted() -> None:
    headers = _signed()
    assert read_signature(headers).access_key_id == CREDENTIALS.access_key
    _check(headers)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20), st.binary(max_size=50))
def test_any_header_and_body_that_the_sdk_signs_are_accepted(value: str, body: bytes) -> None:
    _check(_signed(headers={"X-Custom": f"  a   {value}  b "}, body=body), body)


def test_a_query_is_signed_too() -> None:
    headers = _signed("/?b=2&a=1%20x&c=")
    _check(headers, query="b=2&a=1%20x&c=")
    with pytest.raises(SignatureWrong):
        _check(headers, query="b=3&a=1%20x&c=")


@pytest.mark.parametrize("what", ["body", "secret", "target", "signature", "date"])
def test_a_request_that_was_changed_is_refused(what: str) -> None:
    headers = _signed()
    body, secret = BODY, CREDENTIALS.secret_key
    raw = dict(headers.items())
    if what == "body":
        body = BODY + b" "
    elif what == "secret":
        secret = "secret" * 6 + "x"
    elif what == "target":
        raw["x-amz-target"] = "RekognitionService.DeleteCollection"
    elif what == "signature":
        raw["authorization"] = raw["authorization"][:-1] + ("0" if raw["authorization"][-1] != "0" else "1")
    else:
        raw["x-amz-date"] = raw["x-amz-date"][:9] + "000000Z"
    with pytest.raises(SignatureWrong):
        _check(Headers(raw), body, secret)


def test_a_signature_that_does_not_cover_the_operation_is_malformed() -> None:
    request = AWSRequest("POST", "http://faces.example/", {"Host": "faces.example"}, BODY)
    SigV4Auth(CREDENTIALS, "rekognition", "eu-west-1").add_auth(request)
    headers = Headers({**dict(request.headers.items()), "x-amz-target": TARGET})
    with pytest.raises(SignatureMalformed, match="x-amz-target is not signed"):
        read_signature(headers)


def test_a_signature_for_another_service_is_malformed() -> None:
    with pytest.raises(SignatureMalformed, match="for the service rekognition"):
        read_signature(_signed(service="s3"))


@pytest.mark.parametrize(
    "authorization",
    ["Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00", "AWS x:y"],
)
def test_other_authorizations_are_malformed(authorization: str) -> None:
    with pytest.raises(SignatureMalformed):
        read_signature(Headers({**dict(_signed().items()), "authorization": authorization}))


@pytest.mark.parametrize(
    "date", ["", "20260131", "2026-01-31T00:00:00Z", "20269931T000000Z", "2026131T000000Z", "20260131T00000Z"]
)
def test_dates_that_are_none_are_malformed(date: str) -> None:
    with pytest.raises(SignatureMalformed, match="X-Amz-Date"):
        read_signature(Headers({**dict(_signed().items()), "x-amz-date": date}))


@pytest.mark.parametrize("day", ["", "2", "2026", "20000101"])
def test_the_day_of_the_credential_is_that_of_the_request(day: str) -> None:
    headers = dict(_signed().items())
    _, *scope = headers["authorization"].split("/", 2)
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={CREDENTIALS.access_key}/{day}/{scope[1]}"
    with pytest.raises(SignatureMalformed, match="not that of Credential"):
        read_signature(Headers(headers))


def test_the_digest_that_a_request_states_counts_only_if_it_is_signed() -> None:
    digest = digest_of([BODY])
    headers = _signed(headers={"X-Amz-Content-SHA256": digest})
    assert claimed_digest(read_signature(headers), headers) == digest
    _check(headers)
    added = Headers({**dict(_signed().items()), "x-amz-content-sha256": digest})
    assert claimed_digest(read_signature(added), added) is None
    unsigned = _signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert claimed_digest(read_signature(unsigned), unsigned) is None
    with pytest.raises(SignatureWrong):
        _check(unsigned)


def test_an_unsigned_request_is_told_so() -> None:
    with pytest.raises(SignatureMissing):
        read_signature(Headers({}))


def test_requests_are_valid_for_some_minutes_around_their_date() -> None:
    signature = read_signature(_signed())
    signed = calendar.timegm(time.strptime(signature.date, "%Y%m%dT%H%M%SZ"))
    for skew in (-MAX_SKEW_S, 0, MAX_SKEW_S):
        require_recent(signature, signed + skew)
    for skew in (-MAX_SKEW_S - 1, MAX_SKEW_S + 1):
        with pytest.raises(SignatureExpired, match="Signature expired"):
            require_recent(signature, signed + skew)
