"""Schemas of requests and responses on keys."""

from typing import Annotated, Self

from pydantic import FailFast, Field

from service.api.wire.requests import RequestModel
from service.api.wire.responses import ResponseModel
from service.security.keys.protocols import CompreFaceService, Protocol
from service.security.keys.rates import parse_lifetime
from service.security.keys.store import MAX_CONCURRENCY, MAX_GALLERIES, Key, KeyRequest
from service.security.keys.tokens import Token
from service.security.scopes import SCOPES, Scope

Scopes = Annotated[
    tuple[Scope, ...],
    FailFast(),
    Field(min_length=1, max_length=len(SCOPES), description="What the key may do. `admin` includes all others."),
]
Lifetime = Annotated[str, Field(max_length=20, description="A number and a unit: `30min`, `12h`, `90d`.")]


class KeyCreate(RequestModel):
    """The key to make."""

    name: Annotated[str, Field(description="A name by which you know it; live keys have different names.")]
    scopes: Scopes
    galleries: Annotated[
        tuple[str, ...] | None,
        FailFast(),
        Field(
            max_length=MAX_GALLERIES,
            description="The galleries that the key reaches, by name, or by the beginning of their names with `*` at "
            "its end; `null` for all galleries. For the key, other galleries do not exist.",
        ),
    ] = None
    rate: Annotated[
        str | None, Field(max_length=20, description="Maximum rate of its requests: `50/s`, `100/min`, `1000/h`.")
    ] = None
    concurrency: Annotated[
        int | None,
        Field(ge=1, le=MAX_CONCURRENCY, description="Maximum number of its requests at the same time."),
    ] = None
    expires_in: Annotated[Lifetime | None, Field(description="Time after which the key expires.")] = None

    def key_request(self) -> KeyRequest:
        """Return the key to make as the store expects it.

        Raises:
            KeyInvalid: The lifetime is malformed.
        """
        lifetime = None if self.expires_in is None else parse_lifetime(self.expires_in)
        return KeyRequest(self.name, self.scopes, self.galleries, self.rate, self.concurrency, lifetime)


class KeyRotate(RequestModel):
    """How to rotate a key."""

    overlap: Annotated[Lifetime, Field(description="Time for which the old key stays valid; `0s` for none.")] = "24h"

    def overlap_s(self) -> float:
        """Return the overlap in seconds.

        Raises:
            KeyInvalid: The overlap is malformed.
        """
        return parse_lifetime(self.overlap)


class KeyOut(ResponseModel):
    """A key without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    galleries: Annotated[list[str] | None, Field(description="`null` for all galleries.")]
    rate: str | None
    concurrency: int | None
    protocol: Annotated[
        Protocol,
        Field(description="The protocol of its clients: `vultus`, or that of CompreFace or Amazon Rekognition."),
    ]
    service: Annotated[CompreFaceService | None, Field(description="The service of a key of CompreFace's protocol.")]
    access_key_id: Annotated[str | None, Field(description="The public id of an access key of Rekognition's protocol.")]
    created: str
    expires: str | None
    revoked: str | None
    last_used: Annotated[str | None, Field(description="Within ten seconds.")]

    @classmethod
    def of(cls, key: Key) -> Self:
        """Describe a key."""
        return cls(**key.described())


class KeyCreated(KeyOut):
    """A new key with its secret."""

    key: Annotated[
        str,
        Field(description="The key, or the secret access key. It is shown once; a digest of it is stored."),
    ]

    @classmethod
    def with_token(cls, key: Key, token: Token) -> "KeyCreated":
        """Describe a new key."""
        return cls(**key.described(), key=token.text)


class KeyList(ResponseModel):
    """Keys without their secrets."""

    keys: list[KeyOut]
