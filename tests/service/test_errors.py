from collections.abc import Iterator

from models import errors as core
from models.errors import VultusError
from service import errors
from service.cli.demo import DemoFailed
from service.errors import STATUS, status_of
from service.settings import SettingsInvalid
from tests.conftest import ROOT

AT_START_ONLY = {
    *(core.PackUnknown, core.ManifestInvalid, core.PackMissing, core.PackDamaged, core.SourceUnavailable),
    *(core.ArtefactUnfit, core.StorageFailed, core.EngineMissing, core.EngineConflict, core.PrecisionUnsupported),
    core.EngineBuildFailed,
    *(SettingsInvalid, DemoFailed),
    *(errors.GalleriesInUse, errors.StoreUnfit, errors.SnapshotUnfit),
    *core.ExportError.__subclasses__(),
    *core.EvaluationError.__subclasses__(),
}

NEVER_SEEN = {core.RequestCancelled}  # whoever sent the request has left
OURS = {
    *(core.InferenceFailed, core.EngineStopped, core.DeadlineExceeded),
    *(errors.NotReady, errors.StorageFull, errors.StoreFailed),
}


def leaves(kind: type[VultusError] = VultusError) -> Iterator[type[VultusError]]:
    for child in kind.__subclasses__():
        if child.__subclasses__():
            yield from leaves(child)
        else:
            yield child


def test_every_cause_has_a_code_of_its_own() -> None:
    codes = [leaf.code for leaf in leaves()]
    assert len(codes) == len(set(codes)) >= 35


def test_every_cause_is_mapped_once_or_ends_the_start() -> None:
    assert set(leaves()) == set(STATUS) | AT_START_ONLY | NEVER_SEEN
    assert not set(STATUS) & (AT_START_ONLY | NEVER_SEEN)
    assert all(400 <= status < 500 or leaf in OURS for leaf, status in STATUS.items())
    assert status_of(core.PackDamaged("x")) == 500


def test_the_trees_at_the_heads_of_the_files_are_complete() -> None:
    for module in (core, errors):
        own = {leaf.__name__ for leaf in leaves() if leaf.__module__ == module.__name__}
        assert own <= set((module.__doc__ or "").split())


def test_every_code_that_a_client_can_see_is_documented() -> None:
    readme = (ROOT / "service/README.md").read_text()
    for leaf in STATUS:
        assert f"`{leaf.code}`" in readme
