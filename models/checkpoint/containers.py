"""Read the file formats of weights: the zip of PyTorch 1.6 and later, the older stream, pickles, safetensors, npz.

The bytes decide which format a file has. Files are memory-mapped, so that weights take no memory until they are used.
"""

import json
import mmap
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from models.checkpoint.elements import SAFETENSORS, unread
from models.checkpoint.formats import START_BYTES, Foreign, kind_of
from models.checkpoint.tensors import BlockTensor, HeldArray
from models.checkpoint.unpickling import unpickle, unpickle_bytes
from models.errors import CheckpointIsModule, CheckpointUnreadable, VultusError
from models.text import listed, quoted

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, which end a zip entry's 30-byte header
_CORRUPT = "the checkpoint is truncated or corrupt"
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors", ".pkl", ".onnx")  # that an archive may hold
MOST_EXPANSION = 8  # times that compressed weights may grow; those of networks shrink by a tenth


def read_tree(path: Path) -> Any:
    """Read the content of a checkpoint file: dicts, lists and values, with a record for each tensor.

    Raises:
        CheckpointUnreadable: The file is not a checkpoint, or it is truncated or corrupt.
        CheckpointUnsafe: The file calls code.
        CheckpointIsModule: The file is a pickled module or a TorchScript archive.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
            if not start:
                raise CheckpointUnreadable("the checkpoint is empty")
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
            stream.seek(0)
            kind = kind_of(start, len(content))
            if isinstance(kind, Foreign):
                raise CheckpointUnreadable(kind.sentence())
            if kind == "safetensors":
                return _read_safetensors(path, content)
            if kind == "zip":
                return _read_zip(stream, content)
            if kind == "pickle":
                return _read_pickles(stream, content)
            raise CheckpointUnreadable(
                "the file is not a PyTorch checkpoint, a safetensors file or an .npz file, or its beginning is corrupt"
            )
    except VultusError:
        raise
    except OSError as error:
        raise CheckpointUnreadable(f"the checkpoint cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and mmap raise many types of exceptions on malicious files
        raise CheckpointUnreadable(_CORRUPT) from error


def _read_zip(stream: IO[bytes], content: memoryview) -> Any:
    archive = zipfile.ZipFile(stream)
    entries = {PurePosixPath(entry.filename).parts[1:]: entry for entry in archive.infolist()}
    if ("constants.pkl",) in entries:
        raise CheckpointIsModule(
            "the file is a TorchScript archive; save the state_dict() of the module that it was exported from"
        )
    if ("data.pkl",) not in entries:
        return _read_other_zip(archive)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise CheckpointUnreadable(
            "the file is a zip archive, but compressed, which PyTorch's are not; unpack it first"
        )
    if ("byteorder",) in entries and archive.read(entries["byteorder",]) != b"little":
        raise CheckpointUnreadable("the checkpoint was written on a big-endian machine")
    tree, storages = unpickle_bytes(archive.read(entries["data.pkl",]))
    for storage in storages.values():
        entry = entries.get(("data", storage.key))
        if entry is not None:
            storage.content = _entry(entry, content)
    return tree


def _entry(entry: zipfile.ZipInfo, content: memoryview) -> memoryview:
    """Return the bytes of a zip entry as a view of the file, which works because PyTorch never compresses."""
    start = entry.header_offset
    start += _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(content[start : start + _LOCAL_HEADER.size]))
    block = content[start : start + entry.file_size]
    if zlib.crc32(block) != entry.CRC:
        raise CheckpointUnreadable(f"{_CORRUPT}: a block of weights does not match its checksum")
    return block


def _read_other_zip(archive: zipfile.ZipFile) -> dict[str, HeldArray]:
    """Read the arrays of an `.npz` file, or say what a zip archive of another form is."""
    names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        return _read_arrays(archive)
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise CheckpointIsModule("the file is a program of torch.export; save the state_dict() of its module")
    if "model.weights.h5" in names:
        raise CheckpointUnreadable(
            "the file is a Keras model, not a checkpoint; convert the model to ONNX and give it to: vultus import"
        )
    inside = [name for name in names if name.lower().endswith(_CHECKPOINTS)]
    if inside:
        raise CheckpointUnreadable(f"the file is a zip archive that holds {listed(inside, 3)}; unpack it first")
    raise CheckpointUnreadable("the file is a zip archive, but not in the form that PyTorch writes")


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, HeldArray]:
    entries = archive.infolist()
    packed, full = (sum(getattr(entry, name) for entry in entries) for name in ("compress_size", "file_size"))
    if full > MOST_EXPANSION * packed + START_BYTES * len(entries):
        raise CheckpointUnreadable("the .npz file expands far more than the weights of a network do")
    arrays = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        try:
            with archive.open(entry) as stream:
                arrays[name] = HeldArray(np.lib.format.read_array(stream, allow_pickle=False))
        except ValueError as error:
            reason = "holds Python objects or is corrupt"
            raise CheckpointUnreadable(f"the array {quoted(name)} of the .npz file {reason}") from error
    return arrays


def _read_pickles(stream: IO[bytes], content: memoryview) -> Any:
    """Read the format before PyTorch 1.6, or a pickle that was not written by PyTorch."""
    tree, storages = unpickle(stream)
    if isinstance(tree, dict | list | tuple):
        if storages:
            raise CheckpointUnreadable(_CORRUPT)
        _refuse_paddle(tree)
        return tree
    if tree != _LEGACY_MAGIC:
        raise CheckpointUnreadable("the file is not a PyTorch checkpoint, or its beginning is corrupt")
    return _read_legacy(stream, content)


def _refuse_paddle(tree: Any) -> None:
    if isinstance(tree, dict) and any(isinstance(key, str) and key.endswith("@@") for key in tree):
        raise CheckpointUnreadable(
            "the file holds the parameters of a Paddle model; convert the model to ONNX and give it to: vultus import"
        )


def _read_legacy(stream: IO[bytes], content: memoryview) -> Any:
    """Read the format before PyTorch 1.6 after its magic number: pickles, then each storage preceded by its length."""
    try:
        protocol, system = (_read_pickle(stream) for _ in range(2))
        if protocol != _LEGACY_PROTOCOL or system.get("little_endian") is not True:
            raise CheckpointUnreadable("the file is not a PyTorch checkpoint")
    except (CheckpointUnreadable, AttributeError) as error:
        raise CheckpointUnreadable("the file is not a PyTorch checkpoint, or its beginning is corrupt") from error
    tree, storages = unpickle(stream)
    for key in _read_pickle(stream):
        offset = stream.tell()
        storage = storages.get(str(key))
        count = int.from_bytes(content[offset : offset + 8], "little")
        if storage is None or count != storage.count:
            raise CheckpointUnreadable(_CORRUPT)
        end = offset + 8 + count * storage.element.itemsize
        if end > len(content):
            raise CheckpointUnreadable(f"{_CORRUPT}: it ends before the end of its weights")
        storage.content = content[offset + 8 : end]
        stream.seek(end)
    return tree


def _read_pickle(stream: IO[bytes]) -> Any:
    tree, _ = unpickle(stream)
    return tree


def _read_safetensors(path: Path, content: memoryview) -> dict[str, BlockTensor]:
    """Read the tensors of a safetensors file as views, in types that numpy does not know as well."""
    try:
        with safe_open(path, framework="np"):  # checks that the header is valid and covers the file
            pass
    except (SafetensorError, TypeError, ValueError) as error:
        raise CheckpointUnreadable(f"the safetensors file is truncated or corrupt: {error}") from error
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(bytes(content[8:start]))
    header.pop("__metadata__", None)
    return {
        name: BlockTensor(
            tuple(entry["shape"]),
            SAFETENSORS.get(entry["dtype"], unread(str(entry["dtype"]))),
            content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
        )
        for name, entry in header.items()
    }
