"""`/v1/reports`: list and read the reports that `vultus evaluate` and `vultus calibrate` have kept."""

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.intake.members import read_query
from service.api.openapi import query
from service.api.problems import documented_problems
from service.api.wire.cursors import cursor_of, last_name
from service.api.wire.gallery_requests import PageQuery
from service.api.wire.report_responses import ReportDocument, ReportOut, ReportPage
from service.api.written import written
from service.reports.kept import list_reports, read_report
from service.reports.names import ReportName

router = APIRouter(prefix="/v1/reports", tags=["reports"], dependencies=[needs("read")])


@router.get(
    "",
    name="list_reports",
    response_model=ReportPage,
    responses=documented_problems(errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown, errors.StoreFailed),
    openapi_extra=query(PageQuery),
)
async def list_all(request: Request, backend: UsesBackend) -> Response:
    """List the kept reports, newest first."""
    page = read_query(request, PageQuery)
    after = last_name(page.cursor)
    if after and ReportName.parse(after) is None:
        raise errors.CursorInvalid("the cursor is invalid; send `next` of the previous page")

    def work() -> Response:
        found = list_reports(backend.settings.reports_dir, after, page.limit + 1)
        entries = [ReportOut.of(outline) for outline in found[: page.limit]]
        following = cursor_of(entries[-1].name) if len(found) > page.limit else None
        return written(ReportPage(reports=entries, next=following))

    return await backend.call_gallery(work)


@router.get(
    "/{name}",
    name="read_report",
    response_model=ReportDocument,
    responses=documented_problems(errors.ReportUnknown, errors.ReportDamaged, errors.StoreFailed),
)
async def read(name: str, backend: UsesBackend) -> Response:
    """Return a report as it was kept."""
    content = await backend.call_gallery(read_report, backend.settings.reports_dir, name)
    return Response(content, media_type="application/json")
