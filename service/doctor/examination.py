"""The examination: all checks, in the order in which their findings are shown."""

from collections.abc import Callable, Iterator

from models.errors import VultusError
from service.doctor.access import check_audit, check_connections, check_keys
from service.doctor.backups import check_backups
from service.doctor.files import check_disk, check_encryption, check_files
from service.doctor.findings import Finding
from service.doctor.models import check_model
from service.settings import Settings

Check = Callable[[Settings], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_files,  # first: another check may restrict files that it opens
    check_keys,
    check_connections,
    check_audit,
    check_encryption,
    check_disk,
    check_backups,
    check_model,
)
"""A new check is a function in a module beside this one, and a line here."""


_READ_AGAIN = "see what the sentence names, and run vultus doctor again"


def examine(settings: Settings) -> list[Finding]:
    """Return all findings, warnings first. A running service is not disturbed."""
    findings = [finding for check in CHECKS for finding in _findings(check, settings)]
    return sorted(findings, key=lambda finding: finding.level != "warning")


def _findings(check: Check, settings: Settings) -> list[Finding]:
    """Run a check; what it cannot read is a finding too."""
    try:
        return list(check(settings))
    except VultusError as error:
        return [Finding(error.code, "warning", str(error), _READ_AGAIN)]
    except OSError as error:  # of a path in a directory that may not be read, or of a name that is too long
        what = f"{error.filename} cannot be read: {error.strerror}"
        return [Finding("storage_failed", "warning", what, _READ_AGAIN)]
