"""Verification of signatures (AWS Signature Version 4), by the specification in the IAM user guide of Amazon.

A signature is an HMAC-SHA-256 chain over the date, the region, the service, and a digest of the request with its body.
The secret itself is never sent. Requests are valid for some minutes around their date, so that a recorded one cannot
be replayed later.
"""

import hashlib
import hmac
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.datastructures import Headers

from service.errors import SignatureExpired, SignatureMalformed, SignatureMissing, SignatureWrong

SERVICE = "rekognition"
MAX_SKEW_S = 300.0  # as Amazon's services allow, by their message of an expired signature

ALGORITHM = "AWS4-HMAC-SHA256"
"""Beginning of the header `Authorization` of requests that are signed."""

_TERMINATOR = "aws4_request"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_PARTS = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")
_SPACES = re.compile(r" +")
_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)  # strptime also reads fewer digits
_DIGEST_HEADER = "x-amz-content-sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your secret access key and "
    "signing method"
)
_REQUIRED_HEADERS = {"host", "x-amz-target"}  # without them, a signature would hold for other operations, too


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature.

    Attributes:
        access_key_id: Public id of the key.
        day, region: Scope of the signature: the date as `YYYYMMDD`, and the region that the client is configured for.
        date: When the request was signed, as `YYYYMMDD'T'HHMMSS'Z'`.
        signed_headers: Names of the headers that are signed, in lower case and sorted.
        signature: 64 hexadecimal digits.
    """

    access_key_id: str
    day: str
    region: str
    date: str
    signed_headers: tuple[str, ...]
    signature: str


def read_signature(headers: Headers) -> Signature:
    """Read the signature of a request.

    Raises:
        SignatureMissing: The request is not signed.
        SignatureMalformed: The header `Authorization` or the date is malformed, or something is not signed.
    """
    authorization = headers.get("authorization", "")
    if not authorization:
        raise SignatureMissing("the request is not signed: the header Authorization is missing")
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise SignatureMalformed(f"the header Authorization has another algorithm than {ALGORITHM}")
    parts = dict(_PARTS.findall(rest))
    scope = parts.get("Credential", "").split("/")
    if len(parts) != 3 or len(scope) != 5 or scope[3:] != [SERVICE, _TERMINATOR]:
        raise SignatureMalformed(
            f"the header Authorization needs Credential, for the service {SERVICE}, SignedHeaders and Signature"
        )
    date = headers.get("x-amz-date", "")
    signed = tuple(parts["SignedHeaders"].split(";"))
    missing = (_REQUIRED_HEADERS | {"x-amz-date"}) - set(signed)
    if missing:
        raise SignatureMalformed(f"the header {min(missing)} is not signed")
    access_key_id, day, region, *_ = scope
    if day != date[:8] or _time_of(date) is None:
        raise SignatureMalformed("the header X-Amz-Date is not a date like 20260131T235959Z, or not that of Credential")
    return Signature(access_key_id, day, region, date, signed, parts["Signature"])


def require_recent(signature: Signature, now: float) -> None:
    """Refuse a request that was signed too long ago, or will be signed in the future.

    Args:
        signature: Signature of the request.
        now: Seconds since 1970.

    Raises:
        SignatureExpired: It is not within `MAX_SKEW_S`.
    """
    signed = _time_of(signature.date)
    if signed is None or abs(signed - now) > MAX_SKEW_S:
        at = datetime.fromtimestamp(now, UTC).strftime(_DATE_FORMAT)
        raise SignatureExpired(
            f"Signature expired: {signature.date} is not within {MAX_SKEW_S / 60:.0f} min. of {at}; set the clock"
        )


def require_signature(
    signature: Signature, secret: str, method: str, path: str, query: str, headers: Headers, digest: str
) -> None:
    """Refuse a request whose signature does not fit.

    Args:
        signature: Signature of the request.
        secret: Secret of its key.
        method: HTTP method.
        path: Path as the client sent it.
        query: Query as the client sent it.
        headers: Headers of the request.
        digest: Digest of its body; see `digest_of`.

    Raises:
        SignatureWrong: The request was signed with another secret, or changed on the way.
    """
    canonical = "\n".join(
        [
            method,
            path or "/",
            _canonical_query(query),
            *(f"{name}:{_canonical_value(headers.getlist(name))}" for name in signature.signed_headers),
            "",
            ";".join(signature.signed_headers),
            digest,
        ]
    )
    scope = f"{signature.day}/{signature.region}/{SERVICE}/{_TERMINATOR}"
    signed = "\n".join([ALGORITHM, signature.date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for step in (signature.day, signature.region, SERVICE, _TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    expected = hmac.digest(key, signed.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), signature.signature.encode()):
        raise SignatureWrong(_WRONG)


def claimed_digest(signature: Signature, headers: Headers) -> str | None:
    """Return the digest of the body as the request states and signs it; None if it does not.

    With it the signature can be verified before the body is received. The AWS SDK for JavaScript states it, that for
    Python does not.
    """
    claimed = headers.get(_DIGEST_HEADER, "")
    return claimed if _DIGEST_HEADER in signature.signed_headers and _DIGEST.fullmatch(claimed) else None


def digest_of(body: Sequence[bytes]) -> str:
    """Return the digest of a body as signatures cover it: SHA-256, in hexadecimal digits.

    Args:
        body: Pieces of the body.
    """
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    return digest.hexdigest()


def require_digest(claimed: str, body: Sequence[bytes]) -> None:
    """Refuse a body that is not the one whose digest was signed.

    Raises:
        SignatureWrong: It has another digest.
    """
    if digest_of(body) != claimed:
        raise SignatureWrong(_WRONG)


def _time_of(date: str) -> float | None:
    if not _DATE.fullmatch(date):
        return None
    try:
        return datetime.strptime(date, _DATE_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _canonical_query(query: str) -> str:
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    return "&".join(sorted(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs))


def _escaped(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")


def _canonical_value(values: Sequence[str]) -> str:
    return ",".join(_SPACES.sub(" ", value.strip()) for value in values)
