"""Choose among the files of a repository. Code (`*.py`) is never among the candidates."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.errors import HubFilesAmbiguous, HubNotFound
from models.hub import Listing
from models.text import listed


class Fetched(NamedTuple):
    """A file from the Hub.

    Attributes:
        path: Where it lies, with the files that it needs beside it.
        origin: Repository, commit and path in it, for the card; empty for a file that is not from the Hub.
    """

    path: Path
    origin: dict[str, str]


def origin_of(listing: Listing, path: str) -> dict[str, str]:
    """Return what a card states about a file of a repository."""
    return {"file": path, "repository": f"hf:{listing.reference.repository}", "commit": listing.commit}


def named_file(listing: Listing) -> str | None:
    """Return the path of the file that the reference names; None if it names a folder or nothing.

    Raises:
        HubNotFound: The repository has neither file nor folder of the name.
    """
    named = listing.reference.file
    if named is None or any(path.startswith(f"{named}/") for path in listing.files):
        return None
    if named not in listing.files:
        raise HubNotFound(
            f"{listing.reference.repository} has no file or folder {named} at commit {listing.commit[:12]}; it has: "
            f"{shown(listing.files)}"
        )
    return named


def paths_inside(listing: Listing, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """Return the paths of the files with one of the suffixes in the folder that the reference names, sorted."""
    folder = folder_of(listing)
    return sorted(path for path in listing.files if path.startswith(folder) and path.lower().endswith(suffixes))


def folder_of(listing: Listing) -> str:
    """Return the folder that the reference names with a slash at its end; empty if it names none."""
    return f"{listing.reference.file}/" if listing.reference.file else ""


def only_one(listing: Listing, candidates: Sequence[str], what: str) -> str:
    """Return the only candidate.

    Raises:
        HubNotFound: There is none; the message lists the files.
        HubFilesAmbiguous: There are several; the message lists them.
    """
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise HubFilesAmbiguous(
            f"{listing.reference} has several files that may be {what}: {listed(candidates)}; give one after a slash"
        )
    raise HubNotFound(f"{listing.reference} has no file that may be {what}; it has: {shown(paths_inside(listing))}")


def shown(paths: Iterable[str]) -> str:
    """Return the paths of a repository for a sentence, without those of its code."""
    return listed(sorted(path for path in paths if not path.endswith(".py"))) or "nothing else than code"
