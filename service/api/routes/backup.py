"""`/v1/backup`: make a backup in the directory of the settings."""

from fastapi import APIRouter, Request

from models.deadline import Deadline
from models.types import no_progress
from service import errors
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.documented_errors import STORE_ERRORS
from service.api.problems import documented_problems
from service.api.wire.backup_responses import BackupResponse
from service.audit.records import Event
from service.backup.places import places_of
from service.backup.writing import MadeBackup, make_backup
from service.errors import BackupUnconfigured
from service.settings import Settings

router = APIRouter(prefix="/v1/backup", tags=["backup"], dependencies=[needs("admin")])


@router.post(
    "",
    name="make_backup",
    status_code=201,
    responses=documented_problems(
        errors.BackupUnconfigured,
        errors.BackupInProgress,
        errors.BackupUnfit,
        errors.ErasuresDamaged,
        *STORE_ERRORS,
    ),
)
async def make(request: Request, backend: UsesBackend) -> BackupResponse:
    """Back up the galleries, keys and audit log into the directory that the service is configured with.

    The response comes when the backup is complete and on the disk; there is no time limit. If the client disconnects
    before, no backup is made.
    """
    await backend.auditor.require_writable()
    made = await backend.check(request, _make, backend.settings)
    await backend.auditor.record(request, [Event("backup", count=made.manifest.templates)])
    return BackupResponse(**made.described())


def _make(settings: Settings, deadline: Deadline) -> MadeBackup:
    path = settings.backup.directory
    if path is None:
        raise BackupUnconfigured("the service has no directory for backups; set VULTUS_BACKUP__DIRECTORY")
    return make_backup(places_of(settings), path, settings.backup.keep, no_progress, deadline)
