"""`/export` and `/import`: galleries as NDJSON."""

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from models.errors import EngineStopped
from service import errors
from service.api.backend import UsesBackend
from service.api.documented_errors import STORE_ERRORS
from service.api.intake.members import NDJSON, is_ndjson
from service.api.intake.ndjson import gathered, in_pieces, read_lines
from service.api.problems import documented_problems
from service.api.wire.gallery_responses import ImportResponse
from service.errors import MediaTypeUnsupported
from service.gallery.exchange import IMPORTED_AT_ONCE, Importer, export_lines

router = APIRouter(prefix="/v1/galleries/{gallery}", tags=["galleries"])

_LINES = {"type": "string", "description": "One JSON object in each line."}
_LONGEST_LINE_BYTES = 2**20
_AT_ONCE_BYTES = 2**25


@router.get(
    "/export",
    responses={
        **documented_problems(errors.GalleryUnknown),
        200: {"description": "Header, templates, end.", "content": {NDJSON: {"schema": _LINES}}},
    },
    response_class=StreamingResponse,
)
async def export(gallery: str, backend: UsesBackend) -> StreamingResponse:
    """Stream all templates with their contract id, between a header and an end by which a cut is seen."""
    lines = await backend.call_gallery(export_lines, backend.galleries, gallery)
    return StreamingResponse(in_pieces(lines), media_type=NDJSON)


@router.post(
    "/import",
    responses=documented_problems(
        errors.GalleryUnknown,
        errors.ContractMismatch,
        errors.MediaTypeUnsupported,
        errors.BodyTooLarge,
        errors.LineMalformed,
        errors.NameInvalid,
        errors.EmbeddingWrongDimension,
        errors.EmbeddingNotFinite,
        errors.EmbeddingZero,
        EngineStopped,
        *STORE_ERRORS,
    ),
    openapi_extra={"requestBody": {"required": True, "content": {NDJSON: {"schema": _LINES}}}},
)
async def import_(gallery: str, request: Request, backend: UsesBackend) -> ImportResponse:
    """Store the templates of an export, of any length. What is there already is passed over.

    After an error the lines before the one that is named are stored: mend it and send all of them again.
    """
    if not is_ndjson(request):
        raise MediaTypeUnsupported(f"send the lines of an export as {NDJSON}")
    importer = await backend.call_gallery(Importer, backend.galleries, gallery)
    async for lines in gathered(read_lines(request, _LONGEST_LINE_BYTES), IMPORTED_AT_ONCE, _AT_ONCE_BYTES):
        await backend.call_gallery(importer.store, lines)  # nobody's thread is held while a slow client sends
    done = importer.end()
    return ImportResponse(enrolled=done.enrolled, duplicates=done.duplicates, refused=done.refused)
