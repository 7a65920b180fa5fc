"""Access of clients of Amazon Rekognition: signed requests, whose operation becomes the path of their route."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from models.deadline import Deadline
from models.errors import VultusError
from service.api.access import path_of
from service.api.admission import BodyBudget
from service.api.intake.body import receive_pieces
from service.compat.rekognition.errors import error_response
from service.compat.rekognition.signature import (
    ALGORITHM,
    Signature,
    claimed_digest,
    digest_of,
    read_signature,
    require_digest,
    require_recent,
    require_signature,
)
from service.compat.rekognition.unverified import UnverifiedBodies
from service.security.guard import Access, Guard
from service.security.keys.keyring import SigningKey
from service.settings import RequestSettings

PREFIX = "/rekognition"
"""Path below which the operations have their routes."""

MAX_BODY_BYTES = 15 * 2**20
"""Maximum size of a request: two photos of 5 MiB as base64, and what is around them."""

_TARGET = re.compile(r"RekognitionService\.([A-Za-z]{1,64})")
_UNKNOWN = "Unknown"
_UNVERIFIED_PART = 4  # of the memory budget, one part is for bodies whose signatures are not verified yet


class SignedRequests:
    """Admits requests by their signatures, for which their bodies are received first.

    A body counts for the client of a key from its first bytes if the request states its digest, and else when its
    signature is verified: whoever is not the client has its id at most. It is held once more while its operation runs,
    so it counts twice against the memory budget.
    """

    def __init__(
        self, guard: Guard, bodies: BodyBudget, limits: RequestSettings, clock: Callable[[], float] = time.time
    ) -> None:
        """Admit what a guard admits.

        Args:
            guard: Knows the keys.
            bodies: Budget of the bytes that bodies hold in memory.
            limits: Limits of requests.
            clock: Returns seconds since 1970.
        """
        self._guard = guard
        self._bodies = bodies
        self._limits = limits
        self._clock = clock
        self._max_body = min(MAX_BODY_BYTES, limits.max_bytes)
        self._unverified = UnverifiedBodies(bodies, max(limits.buffered_bytes // _UNVERIFIED_PART, 2 * self._max_body))

    def is_for(self, scope: Scope) -> bool:
        """Return whether a request is one of Rekognition's protocol."""
        path = path_of(scope)
        if path == "/" and scope["method"] != "POST":  # a wrong method is answered in the form that the client reads
            headers = Headers(scope=scope)
            return "x-amz-target" in headers or headers.get("authorization", "").startswith(ALGORITHM)
        return path == "/" or path.startswith(f"{PREFIX}/")

    async def admit(self, scope: Scope, receive: Receive, held: ExitStack) -> tuple[Access, Receive]:
        """Return what a request may do, and lead it to the route of its operation.

        Raises:
            SignatureMissing: The request is not signed.
            SignatureMalformed: The signature is malformed.
            SignatureExpired: The request was signed too long ago.
            SignatureWrong: It was signed with another secret, or changed on the way.
            KeyMalformed: The access key id was not made by this service.
            KeyWrong: No such access key was made, or it is no longer valid.
            RequestError: The body cannot be received; the subclass says why.
            StoreFailed: The file system refused a read.
        """
        headers = Headers(scope=scope)
        signature = read_signature(headers)
        require_recent(signature, self._clock())
        signing = self._guard.signing_key(signature.access_key_id)
        body = await self._receive(Request(scope, receive), signature, signing, held)
        target = _TARGET.fullmatch(headers.get("x-amz-target", ""))
        scope["path"] = scope.get("root_path", "") + f"{PREFIX}/{target[1] if target else _UNKNOWN}"
        return self._guard.admit_signed(signing.key), again(body, receive)

    async def _receive(
        self, request: Request, signature: Signature, signing: SigningKey, held: ExitStack
    ) -> list[bytes]:
        """Receive the body of a request, and verify the signature as soon as that is possible.

        Raises:
            SignatureWrong: The request was signed with another secret, or changed on the way.
            VultusError: As `receive_pieces`.
        """
        scope, key = request.scope, signing.key
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        query = scope["query_string"].decode("latin-1")

        def verify(digest: str) -> None:
            require_signature(signature, signing.secret, scope["method"], path, query, request.headers, digest)

        deadline = Deadline(self._limits.timeout_s)
        claimed = claimed_digest(signature, request.headers)
        if claimed is not None:
            verify(claimed)
            account = held.enter_context(self._bodies.account(client=key.id))
            body = await receive_pieces(request, self._max_body, account.take, deadline)
            require_digest(claimed, body)
            return body
        body = await self._unverified.receive(request, key.id, self._max_body, deadline)
        verify(digest_of(body))
        held.enter_context(self._bodies.account(client=key.id)).take(sum(map(len, body)))
        return body

    def refusal(self, error: VultusError, scope: Scope) -> Response:
        """Return the response for a request that is not admitted."""
        return error_response(error, scope["state"])


def again(body: Sequence[bytes], receive: Receive) -> Receive:
    """Return what delivers a body that was received, and afterwards what the server delivers."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    messages += ({"type": "http.request", "body": piece, "more_body": True} for piece in reversed(body))

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
