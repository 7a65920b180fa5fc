"""Repositories of the Hugging Face Hub: list their files at one commit, and download files that are checked.

The library downloads into its own cache and resumes a cut connection. It does not compare what it has with digests, so
that is done here.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.artefact.digests import file_digest
from models.errors import SourceUnavailable
from models.hub.failures import explained
from models.hub.library import import_library
from models.hub.reference import HubReference
from models.types import Progress, no_progress

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: Path inside the repository.
        sha256: SHA-256 of a large file, which the Hub stores apart; None for others.
        blob: Git's digest of a small file; None if the Hub does not state it.
    """

    path: str
    sha256: str | None
    blob: str | None

    def matches(self, path: Path) -> bool:
        """Return whether a local file has the bytes that the Hub states, as far as it states them."""
        if self.sha256 is not None:
            return file_digest(path) == self.sha256
        return self.blob is None or _blob_digest(path) == self.blob


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit.

    Attributes:
        reference: What the user named.
        commit: Hash of the commit that the revision meant when it was asked for.
        files: The files by their paths.
    """

    reference: HubReference
    commit: str
    files: dict[str, HubFile]


class Hub:
    """The Hub that the user's environment names."""

    def __init__(
        self, progress: Progress = no_progress, endpoint: str | None = None, cache: Path | None = None
    ) -> None:
        """Import the library.

        Args:
            progress: Called with each file and the number of bytes that have arrived.
            endpoint: Address of the Hub; None for that of the environment.
            cache: Directory of the library's cache; None for that of the environment.

        Raises:
            ExtraMissing: The library is not installed.
        """
        self._library = import_library()
        self._progress = progress
        self._endpoint: str = endpoint or self._library.constants.ENDPOINT
        self._cache = cache

    def list_files(self, reference: HubReference) -> Listing:
        """Resolve the revision to a commit, and list the files of that commit.

        Raises:
            HubNotFound, HubAccessDenied, SourceUnavailable: See `explained`.
        """
        what, revision = "the list of files", reference.revision
        self._progress(f"asking the Hub for {reference.repository}", 0, None)
        with explained(reference.repository, what, revision, self._endpoint):
            found = self._library.HfApi(endpoint=self._endpoint).model_info(
                reference.repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
            )
            files = [
                HubFile(file.rfilename, file.lfs.sha256 if file.lfs else None, None if file.lfs else file.blob_id)
                for file in found.siblings
                if _is_inside(file.rfilename)
            ]
            if not _COMMIT.fullmatch(found.sha):
                raise ValueError("the answer names no commit")
            return Listing(reference, found.sha, {file.path: file for file in files})

    def fetch(self, listing: Listing, path: str) -> Path:
        """Download a file of a listing unless the cache has it, check it, and return its path in the cache.

        Raises:
            HubNotFound, HubAccessDenied, SourceUnavailable, StorageFailed: See `explained`.
            SourceUnavailable: The bytes are not those that the Hub states.
        """
        file, repository = listing.files[path], listing.reference.repository
        local = self.fetch_at(repository, listing.commit, path)
        if not file.matches(local):  # a damaged cache
            local = self.fetch_at(repository, listing.commit, path, again=True)
        if not file.matches(local):
            raise SourceUnavailable(
                f"{path} of {repository} has other bytes than the Hub states; it was not used, run the command again"
            )
        return local

    def fetch_at(self, repository: str, commit: str, path: str, again: bool = False) -> Path:
        """Download a file at a commit unless the cache has it, and return its path in the cache.

        Its digest is not checked.

        Args:
            repository: Owner and name of the repository.
            commit: Hash of the commit.
            path: Path of the file inside the repository.
            again: Download it although the cache has it.

        Raises:
            HubNotFound, HubAccessDenied, SourceUnavailable, StorageFailed: See `explained`.
        """
        with explained(repository, path, commit, self._endpoint):
            return Path(
                self._library.hf_hub_download(
                    repository,
                    path,
                    revision=commit,
                    endpoint=self._endpoint,
                    cache_dir=self._cache,
                    force_download=again,
                    tqdm_class=_reporting(self._progress, path),
                )
            )


def _is_inside(path: str) -> bool:
    return not any(part in ("", ".", "..") for part in path.split("/"))


def _blob_digest(path: Path) -> str:
    """Return Git's digest of a file: SHA-1 over its size and its bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _reporting(progress: Progress, name: str) -> type[Any]:
    """Return a class in the place of the library's progress bar, which reports to a callback."""
    from tqdm import tqdm  # comes with the library

    class Reporting(tqdm):  # type: ignore[misc, type-arg, unused-ignore]  # tqdm has no types
        monitor_interval = 0  # starts no thread that draws

        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "gui": True, "leave": False})

        def update(self, n: float | None = 1) -> bool:
            self.n += n or 0
            progress(name, int(self.n), int(self.total) if self.total else None)
            return True

        def display(self, *_: Any, **__: Any) -> None:
            pass

    return Reporting
