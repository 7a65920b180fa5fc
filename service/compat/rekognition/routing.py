"""Routes of operations: each reads a JSON object, checks the grant, and answers in Rekognition's form."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from models.deadline import Deadline
from models.errors import CalibrationUnfit
from service.api.access import client_of, needs
from service.api.backend import Backend, UsesBackend, server_timing
from service.api.intake.body import ReceivedRequest, shutdown_as_error
from service.compat.rekognition.access import PREFIX, again
from service.compat.rekognition.errors import MEDIA_TYPE, error_response, internal_error_response
from service.compat.rekognition.images import require_bucket
from service.compat.rekognition.repetitions import Attempt, FirstInProgress, Repetitions
from service.compat.rekognition.requests import ChangeOfUser, CreateCollection, Image, InCollection, RekognitionRequest
from service.compat.rekognition.similarity import SimilarityScale
from service.compat.routes import CompatRoute
from service.errors import MemberInvalid, MemberMissing
from service.gallery.store import gallery_rows
from service.security.scopes import Scope
from service.strict_json import parse_object

SIMILARITY_HEADER = "X-Vultus-Similarity"

_MAX_PLACE = 200  # characters of the place of an error, which may be a key of a map

Body = TypeVar("Body", bound=RekognitionRequest)
Prepared = TypeVar("Prepared")
Answer = dict[str, Any]

Work = Callable[[Backend, Body, ReceivedRequest, Deadline], Answer]
Prepare = Callable[[Backend, Body, ReceivedRequest, Deadline], Prepared]
Store = Callable[[Backend, Prepared, ReceivedRequest, Deadline], Answer]


class _Repeated(NamedTuple):
    """The answer of a request that was answered before."""

    answer: bytes


class RekognitionRoute(CompatRoute):
    """A route of Rekognition's protocol."""

    refusal = staticmethod(error_response)
    fault = staticmethod(internal_error_response)


def rekognition_router() -> APIRouter:
    """Return a router of operations, which the document of the own API does not describe."""
    return APIRouter(prefix=PREFIX, route_class=RekognitionRoute, include_in_schema=False)


def add_reading(router: APIRouter, name: str, schema: type[Body], scope: Scope, work: Work[Body]) -> None:
    """Add an operation that changes nothing.

    Args:
        router: Router of the operation.
        name: Name of the operation.
        schema: Schema of its request.
        scope: Scope that it needs.
        work: Computes its answer in an inference worker.
    """

    def answer(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
        answer = work(backend, _read(received, schema), received, deadline)
        return _respond(backend, orjson.dumps(answer), received, deadline)

    async def operate(request: Request, backend: UsesBackend) -> Response:
        return await backend.answer(request, answer)

    _add(router, name, scope, operate)


def add_changing(
    router: APIRouter,
    name: str,
    schema: type[Body],
    scope: Scope,
    prepare: Prepare[Body, Prepared],
    store: Store[Prepared],
) -> None:
    """Add an operation that changes a collection.

    Args:
        router: Router of the operation.
        name: Name of the operation.
        schema: Schema of its request.
        scope: Scope that it needs.
        prepare: Computes what is needed in an inference worker.
        store: Changes the store in a store worker and returns the answer.
    """

    async def try_once(request: Request, backend: Backend, attempt: Attempt) -> Response:
        def read_and_prepare(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Prepared | _Repeated:
            body = _read(received, schema)
            if isinstance(body, ChangeOfUser) and body.client_request_token is not None:
                with backend.galleries.database.reading() as connection:
                    collection = gallery_rows.find(connection, body.collection_id).key
                answer = attempt.begin(body.client_request_token, received.pieces, collection, deadline)
                if answer is not None:
                    return _Repeated(answer)
            return prepare(backend, body, received, deadline)

        def change(
            backend: Backend, prepared: Prepared | _Repeated, received: ReceivedRequest, deadline: Deadline
        ) -> Response:
            if isinstance(prepared, _Repeated):
                return _respond(backend, prepared.answer, received, deadline)
            answer = orjson.dumps(store(backend, prepared, received, deadline))
            attempt.keep(answer)
            return _respond(backend, answer, received, deadline)

        return await backend.answer_change(request, read_and_prepare, change)

    async def operate(request: Request, backend: UsesBackend) -> Response:
        repetitions: Repetitions = request.app.state.repetitions
        until: Deadline | None = None
        while True:
            try:
                with repetitions.attempt(client_of(request), name) as attempt:
                    return await try_once(request, backend, attempt)
            except FirstInProgress as first:
                until = until or first.deadline
                await _wait(first.ended, until)
                request = Request(request.scope, again(first.pieces, request.receive))

    _add(router, name, scope, operate)


def as_read(_backend: Backend, body: Body, _received: ReceivedRequest, _deadline: Deadline) -> Body:
    """Prepare nothing: the store needs the request only."""
    return body


def scale_of(backend: Backend) -> SimilarityScale:
    """Return the scale of similarities.

    Raises:
        CalibrationUnfit: The model is not calibrated.
    """
    if backend.models.calibration is None:
        raise CalibrationUnfit(f"similarities need a calibration: {backend.models.uncalibrated_because}")
    return SimilarityScale.of(backend.models.calibration)


def _add(
    router: APIRouter, name: str, scope: Scope, operate: Callable[[Request, Backend], Coroutine[Any, Any, Response]]
) -> None:
    router.add_api_route(f"/{name}", operate, methods=["POST"], name=name, dependencies=[needs(scope)])


def _read(received: ReceivedRequest, schema: type[Body]) -> Body:
    """Read the members of a request.

    Raises:
        JsonMalformed: The body is not a JSON object.
        MemberMissing: A member is missing.
        MemberInvalid: A member has a value that it cannot have.
        GalleryUnknown: The key does not reach the collection.
        PhotoUnreachable: The key does not reach the bucket of a photo.
    """
    try:
        body = schema.model_validate(parse_object(received.body()))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:_MAX_PLACE]
        if first["type"] == "missing":
            raise MemberMissing(f"1 validation error detected: the member {place} is missing") from error
        sentence = f"{place}: {first['msg']}" if place else first["msg"]
        raise MemberInvalid(f"1 validation error detected: {sentence}") from error
    if isinstance(body, InCollection) and not isinstance(body, CreateCollection):
        received.grant.require_galleries([body.collection_id])
    for _, member in body:
        if isinstance(member, Image):
            require_bucket(member, received.grant)
    return body


async def _wait(ended: asyncio.Event, deadline: Deadline) -> None:
    """Wait until the first request with a token has ended.

    Raises:
        DeadlineExceeded: The deadline passed before.
        EngineStopped: The service is shutting down.
    """
    try:
        with shutdown_as_error():
            async with asyncio.timeout(deadline.remaining_s):
                await ended.wait()
    except TimeoutError as error:
        raise deadline.exceeded() from error


def _respond(backend: Backend, answer: bytes, received: ReceivedRequest, deadline: Deadline) -> Response:
    headers = {**server_timing(deadline), "x-amzn-RequestId": received.request_id}
    if backend.models.calibration is not None:
        headers[SIMILARITY_HEADER] = SimilarityScale.of(backend.models.calibration).meaning
    return Response(answer, headers=headers, media_type=MEDIA_TYPE)
