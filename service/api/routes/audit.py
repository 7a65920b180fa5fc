"""`GET /v1/audit`: the records of the audit log, newest first."""

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.access import needs
from service.api.auditing import Auditor
from service.api.backend import UsesBackend
from service.api.intake.members import read_query
from service.api.openapi import query
from service.api.problems import documented_problems
from service.api.wire.audit_schemas import AuditPage, AuditQuery, AuditRecord
from service.api.written import written

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get(
    "",
    name="list_audit_records",
    response_model=AuditPage,
    dependencies=[needs("admin")],
    responses=documented_problems(
        errors.AuditOff,
        errors.AuditUnfit,
        errors.MemberInvalid,
        errors.MemberUnknown,
        errors.StoreBusy,
        errors.StoreFailed,
    ),
    openapi_extra=query(AuditQuery),
)
async def list_all(request: Request, backend: UsesBackend) -> Response:
    """List the newest records of the audit log, or older ones.

    The chain of the records is not checked; `vultus audit verify` does that. Nobody is named: subjects are pseudonyms.
    """
    return await backend.call_gallery(_page, backend.auditor, read_query(request, AuditQuery))


def _page(auditor: Auditor, asked: AuditQuery) -> Response:
    records = auditor.page(asked.limit, asked.before)
    oldest = records[-1].number if len(records) == asked.limit else 1
    return written(
        AuditPage(records=[AuditRecord.of(record) for record in records], next=oldest if oldest > 1 else None)
    )
