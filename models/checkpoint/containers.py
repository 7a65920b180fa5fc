"""Read the three file formats of weights: the zip of PyTorch 1.6 and later, the older stream, and safetensors.

The files of PyTorch are memory-mapped, so that weights take no memory until they are used.
"""

import mmap
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from models.checkpoint.unpickling import unpickle, unpickle_bytes
from models.errors import CheckpointIsModule, CheckpointUnreadable, VultusError

_ZIP, _LEGACY_MAGIC, _LEGACY_PROTOCOL = b"PK\x03\x04", 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, which end a zip entry's 30-byte header
_CORRUPT = "the checkpoint is truncated or corrupt"


def read_tree(path: Path) -> Any:
    """Read the content of a checkpoint file: dicts, lists and values, with a tensor record or array for each tensor.

    Raises:
        CheckpointUnreadable: The file is not a checkpoint, or it is truncated or corrupt.
        CheckpointUnsafe: The file calls code.
        CheckpointIsModule: The file is a pickled module or a TorchScript archive.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            if not start:
                raise CheckpointUnreadable("the checkpoint is empty")
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
            stream.seek(0)
            if path.suffix == ".safetensors":
                return _read_safetensors(path)
            if start == _ZIP:
                return _read_zip(stream, content)
            return _read_legacy(stream, content)
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
    if ("data.pkl",) not in entries or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise CheckpointUnreadable("the file is a zip archive, but not in the form that PyTorch writes")
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


def _read_legacy(stream: IO[bytes], content: memoryview) -> Any:
    """Read the format before PyTorch 1.6: consecutive pickles, then each storage preceded by its length."""
    try:
        magic, protocol, system = (_read_pickle(stream) for _ in range(3))
        if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or system.get("little_endian") is not True:
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
        end = offset + 8 + count * storage.dtype.itemsize
        if end > len(content):
            raise CheckpointUnreadable(f"{_CORRUPT}: it ends before the end of its weights")
        storage.content = content[offset + 8 : end]
        stream.seek(end)
    return tree


def _read_pickle(stream: IO[bytes]) -> Any:
    tree, _ = unpickle(stream)
    return tree


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with safe_open(path, framework="np") as opened:
            weights: dict[str, NDArray[Any]] = opened.get_tensors()
    except (SafetensorError, TypeError, ValueError) as error:
        raise CheckpointUnreadable(f"the safetensors file is truncated or corrupt: {error}") from error
    return weights
