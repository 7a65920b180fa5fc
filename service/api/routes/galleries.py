"""`/v1/galleries`: made, listed, described, changed, audited, erased."""

from fastapi import APIRouter, Request

from models.errors import CalibrationUnfit, QualityUnvalidated
from models.quality import Gate
from service import errors
from service.api.backend import Backend, UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.intake.members import read_query
from service.api.openapi import json_body, query
from service.api.problems import documented_problems
from service.api.wire.cursors import cursor_of, name_behind
from service.api.wire.gallery_requests import ConsistencyRequest, GalleryCreate, GalleryPatch, PageQuery
from service.api.wire.gallery_responses import ConsistencyResponse, GalleryOut, GalleryPage, ReceiptOut
from service.gallery.administration import change_gallery, create_gallery, list_galleries, read_gallery
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_gallery
from service.gallery.galleries import Galleries
from service.gallery.records import Receipt

router = APIRouter(prefix="/v1/galleries", tags=["galleries"])

_GATE = (CalibrationUnfit, QualityUnvalidated)
_EXAMPLE = {"gallery": "staff", "index": "auto", "metadata": {"site": "north"}}


@router.post(
    "",
    status_code=201,
    responses=documented_problems(*BODY_ERRORS, errors.NameInvalid, errors.GalleryExists, *_GATE, *STORE_ERRORS),
    openapi_extra=json_body(GalleryCreate, _EXAMPLE),
)
async def create(request: Request, backend: UsesBackend) -> GalleryOut:
    """Make a gallery under the contract of the model that is served."""
    body = await backend.read(request, GalleryCreate)
    backend.models.require_gate(Gate(body.min_quality))

    def work(galleries: Galleries) -> GalleryOut:
        made = create_gallery(
            galleries, body.gallery, body.index, body.keep_crops, dict(body.metadata), body.min_quality
        )
        return GalleryOut.of(made, 0, 0, galleries.live(made))

    return await backend.call_gallery(work, backend.galleries)


@router.get(
    "",
    responses=documented_problems(errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown),
    openapi_extra=query(PageQuery),
)
async def list_all(request: Request, backend: UsesBackend) -> GalleryPage:
    """List galleries by name."""
    page = read_query(request, PageQuery)
    after = name_behind(page.cursor)
    found = await backend.call_gallery(list_galleries, backend.galleries, after, page.limit + 1)
    some = [GalleryOut.of(*row, backend.galleries.live(row[0])) for row in found[: page.limit]]
    return GalleryPage(galleries=some, next=cursor_of(some[-1].gallery) if len(found) > page.limit else None)


@router.get("/{gallery}", responses=documented_problems(errors.GalleryUnknown))
async def describe(gallery: str, backend: UsesBackend) -> GalleryOut:
    """Describe a gallery."""
    return await _describe(backend, gallery)


@router.patch(
    "/{gallery}",
    responses=documented_problems(
        *BODY_ERRORS, errors.GalleryUnknown, errors.NameInvalid, errors.GalleryExists, *_GATE, *STORE_ERRORS
    ),
    openapi_extra=json_body(GalleryPatch, {"gallery": "crew", "index": "hnsw"}),
)
async def change(gallery: str, request: Request, backend: UsesBackend) -> GalleryOut:
    """Rename a gallery, change its metadata, or have it searched in another way; that is built in the background."""
    body = await backend.read(request, GalleryPatch)
    backend.models.require_gate(Gate(body.min_quality or 0.0))
    metadata = None if body.metadata is None else dict(body.metadata)
    changed = await backend.call_gallery(
        change_gallery, backend.galleries, gallery, body.gallery, body.index, metadata, body.min_quality
    )
    return await _describe(backend, changed.name)


@router.delete("/{gallery}", responses=documented_problems(errors.GalleryUnknown, *STORE_ERRORS))
async def erase(gallery: str, backend: UsesBackend) -> ReceiptOut:
    """Erase a gallery with all it holds."""
    receipt: Receipt = await backend.call_gallery(erase_gallery, backend.galleries, gallery)
    return ReceiptOut.of(receipt)


@router.post(
    "/{gallery}/verify",
    responses=documented_problems(*BODY_ERRORS, errors.GalleryUnknown, *STORE_ERRORS),
    openapi_extra=json_body(ConsistencyRequest, {"erasure": True}),
)
async def verify(gallery: str, request: Request, backend: UsesBackend) -> ConsistencyResponse:
    """Compare index and store, and on request make sure that what was erased is in no file."""
    body = await backend.read(request, ConsistencyRequest)

    def work(galleries: Galleries) -> ConsistencyResponse:
        erasure = check_erasure(galleries) if body.erasure else None
        return ConsistencyResponse.of(check_consistency(galleries, gallery), erasure)

    await _describe(backend, gallery)
    return await backend.call_gallery(work, backend.galleries)


@router.post("/{gallery}/rebuild", status_code=202, responses=documented_problems(errors.GalleryUnknown))
async def rebuild(gallery: str, backend: UsesBackend) -> GalleryOut:
    """Build the index anew from the store, in the background; the old one answers until then."""
    found, _, _ = await backend.call_gallery(read_gallery, backend.galleries, gallery)
    backend.galleries.rebuild(backend.galleries.live(found), anew=True)
    return await _describe(backend, gallery)


async def _describe(backend: Backend, name: str) -> GalleryOut:
    found = await backend.call_gallery(read_gallery, backend.galleries, name)
    return GalleryOut.of(*found, backend.galleries.live(found[0]))
