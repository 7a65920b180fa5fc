"""The examination: all checks, in the order in which their findings are shown."""

from collections.abc import Callable, Iterator

from service.doctor.access import check_audit, check_connections, check_keys
from service.doctor.backups import check_backups
from service.doctor.files import check_disk, check_encryption, check_files
from service.doctor.findings import Finding
from service.doctor.models import check_model
from service.settings import Settings

Check = Callable[[Settings], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_keys,
    check_connections,
    check_audit,
    check_files,
    check_encryption,
    check_disk,
    check_backups,
    check_model,
)
"""A new check is a function in a module beside this one, and a line here."""


def examine(settings: Settings) -> list[Finding]:
    """Return all findings, warnings first. Nothing is changed, and a running service is not disturbed.

    Raises:
        ServerSecretUnfit: The server secret is not that of the keys.
        StoreUnfit: The file of the keys is not one.
        StoreFailed: The file system refused a read.
    """
    findings = [finding for check in CHECKS for finding in check(settings)]
    return sorted(findings, key=lambda finding: finding.level != "warning")
