"""`/v1/galleries`: made, listed, described, changed, audited, erased."""

from fastapi import APIRouter, Request

from models.errors import CalibrationUnfit, DeadlineExceeded, QualityUnvalidated
from models.quality import Gate
from service import errors
from service.api.dependencies import Backend, UsesBackend
from service.api.detect import INTAKE_ERRORS, LOAD_ERRORS
from service.api.gallery_requests import AuditRequest, GalleryCreate, GalleryPatch, PageQuery
from service.api.gallery_responses import AuditResponse, GalleryOut, GalleryPage, ReceiptOut
from service.api.intake import read_query
from service.api.openapi import json_body, query
from service.api.paging import cursor_of, name_behind
from service.api.problems import documented_problems
from service.gallery.administration import change_gallery, create_gallery, list_galleries, read_gallery
from service.gallery.audit import verify_erasure, verify_gallery
from service.gallery.erasure import erase_gallery
from service.gallery.galleries import Galleries
from service.gallery.records import Receipt

router = APIRouter(prefix="/v1/galleries", tags=["galleries"])

STORE_ERRORS = (errors.StorageFull, errors.StoreFailed)
BODY_ERRORS = (
    *(error for error in INTAKE_ERRORS if error is not errors.MultipartMalformed),
    *(error for error in LOAD_ERRORS if error is not DeadlineExceeded),
)
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

    return await backend.consult(work, backend.galleries)


@router.get(
    "",
    responses=documented_problems(errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown),
    openapi_extra=query(PageQuery),
)
async def list_all(request: Request, backend: UsesBackend) -> GalleryPage:
    """List galleries by name."""
    page = read_query(request, PageQuery)
    after = name_behind(page.cursor)
    found = await backend.consult(list_galleries, backend.galleries, after, page.limit + 1)
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
    changed = await backend.consult(
        change_gallery, backend.galleries, gallery, body.gallery, body.index, metadata, body.min_quality
    )
    return await _describe(backend, changed.name)


@router.delete("/{gallery}", responses=documented_problems(errors.GalleryUnknown, *STORE_ERRORS))
async def erase(gallery: str, backend: UsesBackend) -> ReceiptOut:
    """Erase a gallery with all it holds."""
    receipt: Receipt = await backend.consult(erase_gallery, backend.galleries, gallery)
    return ReceiptOut.of(receipt)


@router.post(
    "/{gallery}/verify",
    responses=documented_problems(*BODY_ERRORS, errors.GalleryUnknown, *STORE_ERRORS),
    openapi_extra=json_body(AuditRequest, {"erasure": True}),
)
async def verify(gallery: str, request: Request, backend: UsesBackend) -> AuditResponse:
    """Compare index and store, and on request make sure that what was erased is in no file."""
    body = await backend.read(request, AuditRequest)

    def work(galleries: Galleries) -> AuditResponse:
        erasure = verify_erasure(galleries) if body.erasure else None
        return AuditResponse.of(verify_gallery(galleries, gallery), erasure)

    await _describe(backend, gallery)
    return await backend.consult(work, backend.galleries)


@router.post("/{gallery}/rebuild", status_code=202, responses=documented_problems(errors.GalleryUnknown))
async def rebuild(gallery: str, backend: UsesBackend) -> GalleryOut:
    """Build the index anew from the store, in the background; the old one answers until then."""
    found, _, _ = await backend.consult(read_gallery, backend.galleries, gallery)
    backend.galleries.mend(backend.galleries.live(found), anew=True)
    return await _describe(backend, gallery)


async def _describe(backend: Backend, name: str) -> GalleryOut:
    found = await backend.consult(read_gallery, backend.galleries, name)
    return GalleryOut.of(*found, backend.galleries.live(found[0]))
