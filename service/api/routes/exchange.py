"""`/export` and `/import`: export and import galleries as NDJSON."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from models.deadline import Deadline
from service import errors
from service.api.access import access_of, client_of, needs
from service.api.backend import UsesBackend
from service.api.documented_errors import STORE_ERRORS
from service.api.intake.members import NDJSON, is_ndjson, time_limit
from service.api.intake.ndjson import in_full_groups, join_short_lines, read_lines
from service.api.problems import documented_problems
from service.api.request_state import TRACE
from service.api.wire.gallery_responses import ImportResponse
from service.api.workers import ReceiveAhead
from service.audit.records import Event
from service.errors import MediaTypeUnsupported
from service.gallery.exchange import IMPORT_BATCH_LINES, Importer, export_lines

router = APIRouter(prefix="/v1/galleries/{gallery}", tags=["galleries"])

_LINES = {"type": "string", "description": "One JSON object in each line."}
_LONGEST_LINE_BYTES = 2**20
_AT_ONCE_BYTES = 2**25


@router.get(
    "/export",
    name="export_gallery",
    dependencies=[needs("export")],
    responses={
        **documented_problems(errors.GalleryUnknown, errors.AuditStopped),
        200: {
            "description": "A header, one line for each template and each subject without templates, and an end line.",
            "content": {NDJSON: {"schema": _LINES}},
        },
    },
    response_class=StreamingResponse,
)
async def export(gallery: str, request: Request, backend: UsesBackend) -> StreamingResponse:
    """Export all subjects and templates of a gallery as NDJSON.

    The header has the settings of the gallery, and the line of a template its crop if the gallery keeps crops. Every
    line before the end line has the contract id. An export without the end line is truncated. The export is the gallery
    as it was when the request began, without what is erased before its line is sent.
    """
    lines = await backend.call_gallery(export_lines, backend.galleries, gallery)
    await backend.auditor.record(request, [Event("export", [gallery], contract_id=backend.galleries.contract_id)])
    access = access_of(request)

    async def permitted() -> AsyncIterator[bytes]:
        async for piece in iterate_in_threadpool(join_short_lines(lines)):
            backend.guard.recheck(access)  # a key that is revoked meanwhile leaves a truncated export
            yield piece

    return StreamingResponse(permitted(), media_type=NDJSON)


@router.post(
    "/import",
    name="import_gallery",
    dependencies=[needs("enrol")],
    responses=documented_problems(
        errors.GalleryUnknown,
        errors.ContractMismatch,
        errors.MediaTypeUnsupported,
        errors.BodyIncomplete,
        errors.BodyTooLarge,
        errors.BodyTooSlow,
        errors.Overloaded,
        errors.LineMalformed,
        errors.SubjectFull,
        errors.NameInvalid,
        errors.EmbeddingWrongDimension,
        errors.EmbeddingNotFinite,
        errors.EmbeddingZero,
        *STORE_ERRORS,
    ),
    openapi_extra={"requestBody": {"required": True, "content": {NDJSON: {"schema": _LINES}}}},
)
async def import_(gallery: str, request: Request, backend: UsesBackend) -> ImportResponse:
    """Import the templates of an export of any length.

    A gallery without subjects takes over the settings of the exported gallery, except those that it has set itself.
    Templates that are already stored are skipped and counted as duplicates. A subject that is new has the metadata of
    all its lines; an existing subject gets the members that it lacks. A new subject whose templates are all refused,
    because another subject has them, is stored if it has a line of its own. Crops are stored if the gallery keeps
    crops.

    After an error, the lines before the line that the error names are stored: correct that line and send all lines
    again. The time limit applies to each group of lines; after a 504, the groups before it are stored.
    """
    if not is_ndjson(request):
        raise MediaTypeUnsupported(f"send the lines of an export with the media type {NDJSON}")
    access = access_of(request)
    importer = await backend.call_gallery(Importer, backend.galleries, gallery)
    limit_s = time_limit(request.headers, backend.settings.request)
    ahead = ReceiveAhead(request)
    with backend.bodies.account(backend.settings.request.streams_bytes, client_of(request)) as account:
        arriving = read_lines(Request(request.scope, ahead), _LONGEST_LINE_BYTES, limit_s, account)
        async with aclosing(in_full_groups(arriving, IMPORT_BATCH_LINES, _AT_ONCE_BYTES)) as groups:
            async for lines in groups:
                backend.guard.recheck(access)
                deadline = Deadline(limit_s, observer=request.scope["state"].get(TRACE))
                access.grant.require_galleries([await backend.call_gallery(importer.name_of_gallery)])
                await backend.auditor.require_writable()
                earlier = importer.counts.enrolled
                with ahead.cancelled_on_disconnect(deadline):  # a slow client occupies no worker meanwhile
                    try:
                        await backend.change(deadline, importer.store, lines, deadline)
                    finally:  # the lines before an invalid one are stored
                        new = importer.counts.enrolled - earlier
                        await backend.auditor.record(request, [Event("import", [gallery], count=new)] if new else [])
                account.give_back(sum(map(len, lines)))
    done = importer.end()
    return ImportResponse(enrolled=done.enrolled, duplicates=done.duplicates, refused=done.refused)
