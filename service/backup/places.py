"""Where the files lie that a backup has."""

from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files lie that a backup has.

    Attributes:
        galleries: Directory of the galleries.
        security: Directory of the keys.
        secret_file: File of the server secret if it lies elsewhere. It is then its operator's to keep, and not in
            backups.
    """

    galleries: Path
    security: Path
    secret_file: Path | None = None


def places_of(settings: Settings) -> Places:
    """Return where the files of a service lie."""
    return Places(settings.galleries_dir, settings.security_dir, settings.security.secret_file)
