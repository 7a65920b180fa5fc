"""Schemas of responses on backups."""

from typing import Annotated

from pydantic import Field

from service.api.wire.responses import ResponseModel


class BackupResponse(ResponseModel):
    """A backup that is complete and on the disk."""

    backup: Annotated[str, Field(description="Name of the backup: its time in UTC.")]
    created: str
    version: Annotated[str, Field(description="Version of Vultus that made it.")]
    gallery_count: int
    subject_count: int
    template_count: int
    bytes: Annotated[int, Field(description="Size of all files of the backup.")]
    new_bytes: Annotated[int, Field(description="Size of what no earlier backup of the directory had.")]
    removed: Annotated[list[str], Field(description="Backups that were removed because there are newer ones.")]
    unreadable: Annotated[
        list[str],
        Field(
            description="Backups whose manifest cannot be read. Until they are removed, what removed backups had stays "
            "on the disk."
        ),
    ]
