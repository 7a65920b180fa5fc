"""Schemas of responses on kept reports."""

from typing import Annotated, Any, Self

from pydantic import Field

from service.api.wire.responses import ResponseModel
from service.reports.kept import ReportOutline
from service.reports.names import ReportKind


class ReportOut(ResponseModel):
    """A kept report."""

    name: Annotated[str, Field(description="Kind, title and time, by which it is read.")]
    kind: ReportKind
    title: Annotated[str | None, Field(description="Names of what was measured; `null` if the file is damaged.")]
    written: str
    size: Annotated[int, Field(description="Bytes of the document.")]
    damaged: Annotated[str | None, Field(description="What is wrong with the file, or `null`.")]

    @classmethod
    def of(cls, outline: ReportOutline) -> Self:
        """Convert an outline."""
        return cls(**outline._asdict())


class ReportPage(ResponseModel):
    """A page of the list of reports."""

    reports: Annotated[list[ReportOut], Field(description="Newest first.")]
    next: Annotated[str | None, Field(description="Cursor of the next page; `null` on the last page.")]


class ReportDocument(ResponseModel):
    """A report: what `--json` of the command writes, without names of people and files."""

    kind: ReportKind
    title: str
    written: str
    program: str
    evaluations: Annotated[
        list[dict[str, Any]],
        Field(
            description="One for each measurement, with `protocol`, `title`, `conditions`, `figures`, `tables`, "
            "`charts`, `points` and `notes`."
        ),
    ]
