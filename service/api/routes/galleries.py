"""`/v1/galleries`: create, list, describe, change, verify, rebuild and erase galleries."""

from fastapi import APIRouter, Request, Response

from models.deadline import Deadline
from models.errors import CalibrationUnfit, QualityUnvalidated
from models.quality import Gate
from service import errors
from service.api.access import grant_of, needs
from service.api.backend import Backend, UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.intake.members import read_query
from service.api.openapi import json_body, query
from service.api.problems import documented_problems
from service.api.wire.cursors import cursor_of, last_name
from service.api.wire.gallery_requests import ConsistencyRequest, GalleryCreate, GalleryPatch, PageQuery
from service.api.wire.gallery_responses import ConsistencyResponse, GalleryOut, GalleryPage, ReceiptOut
from service.api.written import written
from service.audit.records import Event
from service.gallery.administration import (
    change_gallery,
    count_contents,
    create_gallery,
    list_galleries,
    read_gallery,
)
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_gallery
from service.gallery.galleries import Galleries
from service.gallery.records import Gallery, Receipt

router = APIRouter(prefix="/v1/galleries", tags=["galleries"])

_GATE = (CalibrationUnfit, QualityUnvalidated)
_EXAMPLE = {"gallery": "staff", "index": "auto", "metadata": {"site": "north"}}


@router.post(
    "",
    name="create_gallery",
    status_code=201,
    dependencies=[needs("enrol")],
    responses=documented_problems(*BODY_ERRORS, errors.NameInvalid, errors.GalleryExists, *_GATE, *STORE_ERRORS),
    openapi_extra=json_body(GalleryCreate, _EXAMPLE),
)
async def create(request: Request, backend: UsesBackend) -> GalleryOut:
    """Create a gallery for embeddings of the served model."""
    deadline = backend.deadline(request)
    body = await backend.read(request, GalleryCreate, deadline)
    grant_of(request).require_galleries([body.gallery])
    backend.models.require_gate(Gate(body.min_quality))

    def work(deadline: Deadline) -> tuple[GalleryOut, Event]:
        created = create_gallery(
            *(backend.galleries, body.gallery, body.index, body.keep_crops, dict(body.metadata), body.min_quality),
            *(body.retain_days, deadline),
        )
        described = GalleryOut.of(created, 0, 0, backend.galleries.live(created))
        return described, Event("create_gallery", [created.name])

    return await backend.change_for(request, deadline, work)


@router.get(
    "",
    name="list_galleries",
    response_model=GalleryPage,
    dependencies=[needs("read")],
    responses=documented_problems(errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown),
    openapi_extra=query(PageQuery),
)
async def list_all(request: Request, backend: UsesBackend) -> Response:
    """List galleries, ordered by name; a key lists those that it reaches."""
    page = read_query(request, PageQuery)
    after = last_name(page.cursor)
    grant = grant_of(request)

    def work() -> Response:
        found = list_galleries(backend.galleries, after, page.limit + 1, grant.reaches)
        entries = [GalleryOut.of(*row, backend.galleries.live(row[0])) for row in found[: page.limit]]
        following = cursor_of(entries[-1].gallery) if len(found) > page.limit else None
        return written(GalleryPage(galleries=entries, next=following))

    return await backend.call_gallery(work)


@router.get(
    "/{gallery}",
    name="describe_gallery",
    dependencies=[needs("read")],
    responses=documented_problems(errors.GalleryUnknown),
)
async def describe(gallery: str, backend: UsesBackend) -> GalleryOut:
    """Describe a gallery."""
    return await _describe(backend, gallery)


@router.patch(
    "/{gallery}",
    name="change_gallery",
    dependencies=[needs("enrol")],
    responses=documented_problems(
        *BODY_ERRORS, errors.GalleryUnknown, errors.NameInvalid, errors.GalleryExists, *_GATE, *STORE_ERRORS
    ),
    openapi_extra=json_body(GalleryPatch, {"gallery": "crew", "index": "hnsw"}),
)
async def change(gallery: str, request: Request, backend: UsesBackend) -> GalleryOut:
    """Rename a gallery, or change its metadata, its index kind or its minimum quality.

    A new index is built in the background.
    """
    deadline = backend.deadline(request)
    body = await backend.read(request, GalleryPatch, deadline)
    if body.gallery is not None:
        grant_of(request).require_galleries([body.gallery])
    backend.models.require_gate(Gate(body.min_quality or 0.0))
    metadata = None if body.metadata is None else dict(body.metadata)
    changes = (body.gallery, body.index, metadata, body.min_quality, body.retain_days)

    def work(deadline: Deadline) -> tuple[Gallery, Event]:
        changed = change_gallery(backend.galleries, gallery, *changes, deadline)
        return changed, Event("change_gallery", list(dict.fromkeys((gallery, changed.name))))

    changed = await backend.change_for(request, deadline, work)
    counts = await backend.call_gallery(count_contents, backend.galleries, changed)  # it may have been renamed since
    return GalleryOut.of(changed, *counts, backend.galleries.live(changed))


@router.delete(
    "/{gallery}",
    name="erase_gallery",
    dependencies=[needs("erase")],
    responses=documented_problems(errors.GalleryUnknown, *STORE_ERRORS),
)
async def erase(gallery: str, request: Request, backend: UsesBackend) -> ReceiptOut:
    """Erase a gallery with all its subjects and templates."""
    deadline = backend.deadline(request)

    def work(deadline: Deadline) -> tuple[Receipt, Event]:
        receipt = erase_gallery(backend.galleries, gallery, deadline)
        return receipt, Event("erase_gallery", [gallery], count=receipt.template_count)

    return ReceiptOut.of(await backend.change_for(request, deadline, work))


@router.post(
    "/{gallery}/verify",
    name="check_gallery",
    dependencies=[needs("admin")],
    responses=documented_problems(*BODY_ERRORS, errors.GalleryUnknown, *STORE_ERRORS),
    openapi_extra=json_body(ConsistencyRequest, {"erasure": True}),
)
async def verify(gallery: str, request: Request, backend: UsesBackend) -> ConsistencyResponse:
    """Compare the index of a gallery with the store.

    With `erasure`, also rewrite the store and check that no file contains erased data.
    """
    body = await backend.read(request, ConsistencyRequest, backend.deadline(request))

    def work(galleries: Galleries, deadline: Deadline) -> ConsistencyResponse:
        erasure = check_erasure(galleries, deadline) if body.erasure else None
        return ConsistencyResponse.of(check_consistency(galleries, gallery, deadline), erasure)

    await _describe(backend, gallery)
    return await backend.check(request, work, backend.galleries)


@router.post(
    "/{gallery}/rebuild",
    name="rebuild_index",
    status_code=202,
    dependencies=[needs("admin")],
    responses=documented_problems(errors.GalleryUnknown, errors.ContractMismatch),
)
async def rebuild(gallery: str, backend: UsesBackend) -> GalleryOut:
    """Rebuild the index of a gallery from the store in the background; until then, the current index answers."""
    found, _, _ = await backend.call_gallery(read_gallery, backend.galleries, gallery)
    backend.galleries.require_contract(found.contract_id, "the gallery holds embeddings")  # others are never searched
    backend.galleries.rebuild(backend.galleries.live(found), ignore_snapshot=True)
    return await _describe(backend, gallery)


async def _describe(backend: Backend, name: str) -> GalleryOut:
    found = await backend.call_gallery(read_gallery, backend.galleries, name)
    return GalleryOut.of(*found, backend.galleries.live(found[0]))
