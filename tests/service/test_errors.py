from collections.abc import Iterator

from models import errors as core
from models.errors import VultusError
from service import errors
from service.cli.demo import DemoFailed
from service.cli.remote_service import RemoteFailed
from service.errors import HTTP_STATUS, http_status
from service.settings import SettingsInvalid
from tests.conftest import ROOT

AT_START_ONLY = {
    *(core.PackUnknown, core.ManifestInvalid, core.PackMissing, core.PackDamaged, core.SourceUnavailable),
    *(core.HubReferenceInvalid, core.HubNotFound, core.HubAccessDenied, core.HubFilesAmbiguous),
    *(core.ArtefactUnfit, core.StorageFailed, core.EngineMissing, core.EngineConflict, core.PrecisionUnsupported),
    core.EngineBuildFailed,
    *(SettingsInvalid, DemoFailed, RemoteFailed, errors.TakeoverFailed),
    *(errors.GalleriesInUse, errors.StoreUnfit, errors.SnapshotUnfit),
    errors.ServerSecretUnfit,
    *(errors.MasterKeyMissing, errors.MasterKeyUnfit, errors.MasterKeyWrong, errors.NotEncrypted),
    *(errors.BackupUnknown, errors.BackupDamaged, errors.RestoreRefused),
    *core.ExportError.__subclasses__(),
    *core.EvaluationError.__subclasses__(),
}

NEVER_SEEN = {core.RequestCancelled}  # the client has disconnected
SERVER_ERRORS = {
    *(core.InferenceFailed, core.EngineStopped, core.DeadlineExceeded),
    *(errors.TooManyConnections, errors.AuditStopped, errors.AuditUnfit),
    *(errors.NotReady, errors.StorageFull, errors.StoreBusy, errors.StoreFailed),
    *(errors.ErasuresDamaged, errors.DataKeysUnfit, errors.ReportDamaged),
}


def leaves(kind: type[VultusError] = VultusError) -> Iterator[type[VultusError]]:
    for child in kind.__subclasses__():
        if child.__subclasses__():
            yield from leaves(child)
        else:
            yield child


def test_every_cause_has_its_own_code() -> None:
    codes = [leaf.code for leaf in leaves()]
    assert len(codes) == len(set(codes)) >= 35


def test_every_cause_has_a_status_or_occurs_only_at_start() -> None:
    assert set(leaves()) == set(HTTP_STATUS) | AT_START_ONLY | NEVER_SEEN
    assert not set(HTTP_STATUS) & (AT_START_ONLY | NEVER_SEEN)
    assert all(400 <= status < 500 or leaf in SERVER_ERRORS for leaf, status in HTTP_STATUS.items())
    assert http_status(core.PackDamaged("x")) == 500


def test_the_trees_in_the_docstrings_are_complete() -> None:
    for module in (core, errors):
        names = {leaf.__name__ for leaf in leaves() if leaf.__module__ == module.__name__}
        assert names <= set((module.__doc__ or "").split())


def test_every_code_that_a_client_can_see_is_documented() -> None:
    readme = (ROOT / "service/README.md").read_text()
    for leaf in HTTP_STATUS:
        assert f"`{leaf.code}`" in readme
