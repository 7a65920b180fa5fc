"""Where the files lie that a backup has."""

import re
from dataclasses import dataclass
from pathlib import Path

from service.audit.archives import NAME as AUDIT_ARCHIVE
from service.audit.store import STORE as AUDIT_STORE
from service.gallery.erasure_log import ERASURE_LOG
from service.security.keys.server_secret import SECRET_FILE
from service.security.keys.store import STORE as KEY_STORE
from service.settings import Settings

_SECURITY_FILE = re.compile("|".join([*map(re.escape, (KEY_STORE, SECRET_FILE, AUDIT_STORE)), AUDIT_ARCHIVE.pattern]))


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files lie that a backup has.

    Attributes:
        galleries: Directory of the galleries.
        security: Directory of the keys and the audit log.
        secret_file: File of the server secret if it lies elsewhere. It is then its operator's to keep, and not in
            backups.
        erasure_log: File of the list of erasures if it lies elsewhere.
        data_keys: File of the data keys, if galleries are encrypted.
    """

    galleries: Path
    security: Path
    secret_file: Path | None = None
    erasure_log: Path | None = None
    data_keys: Path | None = None

    @property
    def erasures(self) -> Path:
        """File of the list of erasures."""
        return self.erasure_log or self.galleries / ERASURE_LOG


def places_of(settings: Settings) -> Places:
    """Return where the files of a service lie."""
    return Places(
        settings.galleries_dir,
        settings.security_dir,
        settings.security.secret_file,
        settings.gallery.erasure_log,
        settings.data_keys_file,
    )


def is_security_file(name: str) -> bool:
    """Return whether a file of a backup belongs to the directory of the keys and the audit log."""
    return _SECURITY_FILE.fullmatch(name) is not None
