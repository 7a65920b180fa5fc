"""Schemas of the request and the response on the audit log."""

import json
from typing import Annotated, Self

from pydantic import Field

from service.api.wire.requests import RequestModel
from service.api.wire.responses import ResponseModel
from service.audit.records import Record
from service.errors import AuditUnfit

MAX_RECORDS = 1000


class AuditQuery(RequestModel):
    """The records to return."""

    limit: Annotated[int, Field(ge=1, le=MAX_RECORDS)] = 100
    before: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**18,
            description="`next` of the previous page: the newest records before this number. Without it, the newest.",
        ),
    ] = None


class AuditOutcome(ResponseModel):
    """A decision on one face."""

    decision: Annotated[str | None, Field(description="`null` without an operating point.")] = None
    similarity: Annotated[
        float | None, Field(description="Similarity of the sides or of the best candidate, in three digits.")
    ] = None
    subject: Annotated[str | None, Field(description="Pseudonym of the subject or of the best candidate.")] = None


class AuditRecord(ResponseModel):
    """A record, with the members that `vultus audit tail --json` has; those without a value are `null` or empty."""

    number: Annotated[int, Field(description="Position in the log, from 1, without gaps.")]
    time: Annotated[float, Field(description="Seconds since 1970.")]
    key: Annotated[
        str, Field(description="Id of the key; `open` for a service without keys, `command line` for a command.")
    ]
    route: Annotated[str, Field(description="Method and template of the path, or the command.")]
    request_id: str | None = None
    action: str
    galleries: list[str] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list, description="Pseudonyms of the subjects.")
    outcomes: list[AuditOutcome] = Field(default_factory=list, description="Decisions, one for each face.")
    operating_point: str | None = None
    contract_id: str | None = None
    count: Annotated[int | None, Field(description="Templates that were enrolled, imported or erased.")] = None
    changed_key: Annotated[str | None, Field(description="Id of the key that was made, rotated or revoked.")] = None

    @classmethod
    def of(cls, record: Record) -> Self:
        """Convert a record.

        Raises:
            AuditUnfit: Its content is not that of a record.
        """
        try:
            return cls(**{**json.loads(record.content), "number": record.number})
        except (ValueError, TypeError, RecursionError) as error:
            raise AuditUnfit(f"record {record.number} was changed; run vultus audit verify") from error


class AuditPage(ResponseModel):
    """Records of the audit log, newest first."""

    records: list[AuditRecord]
    next: Annotated[int | None, Field(description="`before` of the next page; `null` on the last page.")]
