"""ONNX graphs from the Hugging Face Hub."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from models.errors import HubNotFound
from models.export.hub.choice import Fetched, named_file, only_one, origin_of, paths_inside
from models.export.onnx_file import weights_files
from models.hub import Hub, HubReference

_SUFFIXES = (".onnx", ".ort")


@contextmanager
def fetched_graph(hub: Hub, reference: HubReference) -> Iterator[Fetched]:
    """Fetch the graph that a reference names or the only one, and its weights in other files, until the block ends.

    Raises:
        HubNotFound: The repository has no such graph, or lacks a file of its weights.
        HubFilesAmbiguous: It has several graphs.
        HubNotFound, HubAccessDenied, SourceUnavailable, StorageFailed: See `Hub`.
    """
    listing = hub.list_files(reference)
    name = named_file(listing) or only_one(listing, paths_inside(listing, _SUFFIXES), "an ONNX graph")
    graph, origin = hub.fetch(listing, name), origin_of(listing, name)
    folder = PurePosixPath(name).parent
    beside = {file: str(folder / file) for file in weights_files(graph)}
    missing = [path for path in beside.values() if path not in listing.files]
    if missing:
        raise HubNotFound(f"{reference.repository} has no file {missing[0]}, in which {name} keeps its weights")
    if not beside:
        yield Fetched(graph, origin)
        return
    with tempfile.TemporaryDirectory() as scratch:  # onnx reads no weights through links, which the library's cache has
        for file, path in {graph.name: name, **beside}.items():
            Path(scratch, file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(hub.fetch(listing, path), Path(scratch, file))
        yield Fetched(Path(scratch, graph.name), origin)
