"""Packs from the Hugging Face Hub: the detector and the recognizer among the ONNX graphs of a repository."""

from collections.abc import Collection
from pathlib import PurePosixPath

from models.errors import HubFilesAmbiguous, HubNotFound
from models.export.hub.choice import folder_of, named_file, paths_inside, shown
from models.export.insightface_directory import Found, PublishedFile, Wanted, read_files
from models.hub import Hub, HubReference, Listing
from models.packs.manifest import HubSource
from models.text import listed

_SUFFIX = ".onnx"
_MAX_GRAPHS = 6  # that are downloaded to find two
_OTHER_ROLES = ("1k3d68.onnx", "2d106det.onnx", "genderage.onnx")  # InsightFace's networks of landmarks and attributes


def fetched_pack(hub: Hub, reference: HubReference, wanted: Wanted) -> Found:
    """Fetch the ONNX graphs of a repository and describe them as a pack, whose manifest names the commit.

    Raises:
        HubNotFound, HubFilesAmbiguous: See `graphs_of`.
        HubNotFound, HubAccessDenied, SourceUnavailable, StorageFailed: See `Hub`.
        GraphUnsupported, ManifestInvalid: See `read_files`.
    """
    listing = hub.list_files(reference)
    both = (wanted.detector, wanted.recognizer) if wanted.detector and wanted.recognizer else ()
    chosen, others = graphs_of(listing, both)
    files = {
        name: PublishedFile(
            hub.fetch(listing, path), HubSource(hub=reference.repository, commit=listing.commit, path=path)
        )
        for name, path in chosen.items()
    }
    found = read_files(files, str(reference), _title(reference), wanted)
    return found._replace(passed_over=(*found.passed_over, *others))


def graphs_of(listing: Listing, wanted: Collection[str] = ()) -> tuple[dict[str, str], list[str]]:
    """Return the ONNX graphs of which a pack may be made.

    Args:
        listing: The files of the repository.
        wanted: Names in the pack of both files, if the user names both; else empty.

    Returns:
        Paths in the repository by their names in a pack, and the names of networks of other roles, which need not be
        downloaded.

    Raises:
        HubNotFound: The repository has no ONNX graph, or not those that the user names.
        HubFilesAmbiguous: It has more graphs than a pack, or two that would have the same name in it.
    """
    named = named_file(listing)
    if named is not None:
        return {PurePosixPath(named).name: named}, []
    folder = folder_of(listing)
    paths = paths_inside(listing, (_SUFFIX,))
    names = {_name(path, folder): path for path in paths}
    others = [name for name, path in names.items() if PurePosixPath(path).name in _OTHER_ROLES]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise HubNotFound(f"{listing.reference} has no graph {missing[0]}; it has: {listed(names) or 'none'}")
    same = [path for path in paths if names[_name(path, folder)] != path and _name(path, folder) in (wanted or names)]
    if same:
        name = _name(same[0], folder)
        raise HubFilesAmbiguous(
            f"{listing.reference} has two graphs that would both be {name} in a pack: {same[0]} and {names[name]}; "
            "give a folder after a slash"
        )
    if wanted:
        return {name: names[name] for name in wanted}, others
    chosen = {name: path for name, path in names.items() if name not in others}
    if not chosen:
        raise HubNotFound(
            f"{listing.reference} has no ONNX graph of a detector or a recognizer; it has: "
            f"{shown(paths_inside(listing))}"
        )
    if len(chosen) > _MAX_GRAPHS:
        raise HubFilesAmbiguous(
            f"{listing.reference} has {len(chosen)} ONNX graphs, more than a pack; give a folder after a slash, or "
            f"both --detector and --recognizer: {listed(names)}"
        )
    return chosen, others


def _name(path: str, folder: str) -> str:
    """Return the name in a pack of a graph of a folder, whose own folders become a part of it."""
    return path.removeprefix(folder).replace("/", "-")


def _title(reference: HubReference) -> str:
    """Return the name of the file or folder, or of the repository if the reference names none."""
    last = PurePosixPath(reference.file or reference.name)
    return last.stem if last.suffix == _SUFFIX else last.name
