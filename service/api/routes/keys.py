"""`/v1/keys`: make, list, rotate and revoke keys."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service import errors
from service.api.access import needs
from service.api.backend import Backend, UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.openapi import json_body
from service.api.problems import documented_problems
from service.api.wire.key_schemas import KeyCreate, KeyCreated, KeyList, KeyOut, KeyRotate
from service.audit.records import Action, Event
from service.security.keys.store import Deliver, Key, KeyStore
from service.security.keys.tokens import Token


def _keys(request: Request) -> KeyStore:
    keys: KeyStore = request.app.state.keys
    return keys


UsesKeys = Annotated[KeyStore, Depends(_keys)]

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[needs("admin")])


@router.post(
    "",
    name="create_key",
    status_code=201,
    responses=documented_problems(*BODY_ERRORS, errors.NameInvalid, errors.KeyInvalid, errors.KeyExists, *STORE_ERRORS),
    openapi_extra=json_body(
        KeyCreate, {"name": "front door", "scopes": ["identify"], "galleries": ["staff"], "rate": "50/s"}
    ),
)
async def create(request: Request, response: Response, keys: UsesKeys, backend: UsesBackend) -> KeyCreated:
    """Make a key. The response is the only one that ever has it."""
    body = await backend.read(request, KeyCreate, backend.deadline(request))
    record = _recorder(backend, request, "create_key")
    key, token = await backend.call_gallery(keys.create, body.key_request(), record)
    _forbid_storing(response)
    return KeyCreated.with_token(key, token)


@router.get("", name="list_keys", responses=documented_problems(errors.StoreBusy, errors.StoreFailed))
async def list_all(keys: UsesKeys, backend: UsesBackend) -> KeyList:
    """List all keys without their secrets, oldest first, also those that are revoked or have expired."""
    return KeyList(keys=[KeyOut.of(key) for key in await backend.call_gallery(keys.list_all)])


@router.get(
    "/{key_id}",
    name="describe_key",
    responses=documented_problems(errors.KeyUnknown, errors.StoreBusy, errors.StoreFailed),
)
async def describe(key_id: str, keys: UsesKeys, backend: UsesBackend) -> KeyOut:
    """Describe a key, without its secret."""
    return KeyOut.of(await backend.call_gallery(keys.find, key_id))


@router.post(
    "/{key_id}/rotate",
    name="rotate_key",
    status_code=201,
    responses=documented_problems(*BODY_ERRORS, errors.KeyInvalid, errors.KeyUnknown, *STORE_ERRORS),
    openapi_extra=json_body(KeyRotate, {"overlap": "24h"}),
)
async def rotate(key_id: str, request: Request, response: Response, keys: UsesKeys, backend: UsesBackend) -> KeyCreated:
    """Make a successor of a key, with the same rights. Both are valid for the time of the overlap."""
    body = await backend.read(request, KeyRotate, backend.deadline(request))
    record = _recorder(backend, request, "rotate_key")
    key, token = await backend.call_gallery(keys.rotate, key_id, body.overlap_s(), record)
    _forbid_storing(response)
    return KeyCreated.with_token(key, token)


@router.delete("/{key_id}", name="revoke_key", responses=documented_problems(errors.KeyUnknown, *STORE_ERRORS))
async def revoke(key_id: str, request: Request, keys: UsesKeys, backend: UsesBackend) -> KeyList:
    """Revoke a key at once. It stays in the list."""
    revoked = await backend.call_gallery(keys.revoke, key_id)
    await backend.auditor.record(request, [Event("revoke_key", key=key.id) for key in revoked])
    return KeyList(keys=[KeyOut.of(key) for key in revoked])


def _recorder(backend: Backend, request: Request, action: Action) -> Deliver:
    """Return the function that records a key before it is stored, so that none is stored that could not be recorded."""
    actor = backend.auditor.actor(request)

    def record(key: Key, _token: Token) -> None:
        backend.auditor.write([Event(action, key=key.id)], actor)

    return record


def _forbid_storing(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"  # RFC 6749, section 5.1: caches must not keep keys
