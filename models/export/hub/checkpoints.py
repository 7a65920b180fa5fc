"""Checkpoints from the Hugging Face Hub, in CVLFace's forms and others."""

from pathlib import PurePosixPath

from models.checkpoint.reading import CHECKPOINT_NAMES
from models.checkpoint.sidecar import description_names
from models.export.hub.choice import Fetched, folder_of, named_file, only_one, origin_of, paths_inside
from models.hub import Hub, HubReference, Listing

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".pkl", ".pickle", ".tar")
_CVLFACE_FOLDER = "pretrained_model"
_OF_CVLFACE = (  # the checkpoint and its description: of the Hub's root, and of the files that CVLFace itself reads
    ("model.safetensors", "config.json"),
    (f"{_CVLFACE_FOLDER}/model.pt", f"{_CVLFACE_FOLDER}/model.yaml"),
)


def fetched_checkpoint(hub: Hub, reference: HubReference) -> Fetched:
    """Fetch a checkpoint and its description.

    Raises:
        HubNotFound, HubFilesAmbiguous: See `checkpoint_of`.
        HubNotFound, HubAccessDenied, SourceUnavailable, StorageFailed: See `Hub`.
    """
    listing = hub.list_files(reference)
    checkpoint = checkpoint_of(listing)
    for description in descriptions_of(listing, checkpoint):  # the library puts them beside the checkpoint
        hub.fetch(listing, description)
    return Fetched(hub.fetch(listing, checkpoint), origin_of(listing, checkpoint))


def checkpoint_of(listing: Listing) -> str:
    """Return the path of the checkpoint that a reference means.

    Without a file in the reference, it is a checkpoint with its description in one of CVLFace's forms, else one of the
    usual names, else the only file that may be a checkpoint.

    Raises:
        HubNotFound: The repository has no such file, or none that may be a checkpoint.
        HubFilesAmbiguous: Several files may be meant.
    """
    named = named_file(listing)
    if named is not None:
        return named
    folder = folder_of(listing)
    for checkpoint, description in _OF_CVLFACE:
        if {folder + checkpoint, folder + description} <= listing.files.keys():
            return folder + checkpoint
    usual = (f"{folder}{inner}{name}" for inner in ("", f"{_CVLFACE_FOLDER}/") for name in CHECKPOINT_NAMES)
    found = next((path for path in usual if path in listing.files), None)
    return found or only_one(listing, paths_inside(listing, _SUFFIXES), "a checkpoint")


def descriptions_of(listing: Listing, checkpoint: str) -> list[str]:
    """Return the paths of the files beside a checkpoint that may describe it, such as `config.json`."""
    path = PurePosixPath(checkpoint)
    names = (str(path.with_name(name)) for name in description_names(path.stem))
    return [name for name in names if name in listing.files]
