"""Read a published graph, ONNX or ONNX Runtime's own format, and say in one sentence why it cannot be read."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from models.artefact.digests import file_digest, value_digest
from models.errors import GraphUnsupported, InferenceFailed
from models.runtime.onnxruntime_engine import write_as_onnx

_HEAD_BYTES = 16
_ORT_FORMAT = b"ORTM"  # identifier at byte 4 of a file of ONNX Runtime's own format
_CHECKPOINTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x89HDF")


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a graph with its weights; the bytes decide the format, not the suffix.

    Raises:
        GraphUnsupported: The file is missing or not ONNX, has no graph, or its weights are missing.
    """
    _check_head(path)
    if is_ort_format(path):
        return _converted(path)
    try:
        model: onnx.ModelProto = onnx.load(path, format="protobuf", load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise GraphUnsupported(f"{path.name} is not an ONNX file, or it is truncated") from error
    if not model.graph.node or not model.graph.output:
        raise GraphUnsupported(f"{path.name} holds no ONNX graph, or it is truncated")
    _check_weights_files(path, model)
    try:
        for tensor in _external_tensors(model):  # onnx's own loader omits some places
            load_external_data_for_tensor(tensor, str(path.parent))
    except Exception as error:  # onnx raises many classes for files outside the directory, links and wrong sizes
        reason = str(error).strip().partition("\n")[0][:200]
        raise GraphUnsupported(f"the weights beside {path.name} cannot be read: {reason}") from error
    return model


def is_ort_format(path: Path) -> bool:
    """Return whether a file is in ONNX Runtime's own format (`.ort`), which only ONNX Runtime reads."""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)[4:8] == _ORT_FORMAT


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of the file, or if its weights are in files beside it, one that covers these too."""
    digest, files = file_digest(path), weights_files(path)
    return value_digest([digest, *(file_digest(path.parent / name) for name in files)]) if files else digest


def weights_files(path: Path) -> list[str]:
    """Return the names of the files beside a graph in which it keeps weights; none if the file is not a graph."""
    if is_ort_format(path):
        return []
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError):
        return []
    return sorted({_place(tensor)["location"] for tensor in _external_tensors(model)})


def _converted(path: Path) -> onnx.ModelProto:
    """Let ONNX Runtime write its own format as ONNX, which keeps the operators of its optimiser."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "graph.onnx")
        try:
            write_as_onnx(path.read_bytes(), target)
            model: onnx.ModelProto = onnx.load(target)
        except InferenceFailed as error:
            raise GraphUnsupported(
                f"{path.name} is in ONNX Runtime's own format and cannot be converted ({error}); "
                "import the .onnx file that it was made from"
            ) from error
    return model


def _check_head(path: Path) -> None:
    if path.is_dir():
        raise GraphUnsupported(f"{path.name} is a directory; name the ONNX file in it")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise GraphUnsupported(f"{path.name} cannot be read: {error.strerror or error}") from error
    if not head:
        raise GraphUnsupported(f"{path.name} is empty")
    if head.startswith(_CHECKPOINTS):
        raise GraphUnsupported(f"{path.name} is not an ONNX file; for a PyTorch checkpoint use: vultus export")


def _check_weights_files(path: Path, model: onnx.ModelProto) -> None:
    for entry in map(_place, _external_tensors(model)):
        file = path.parent / entry["location"]
        if not file.is_file():
            raise GraphUnsupported(
                f"the weights of {path.name} are in the file {entry['location']}, which is not beside it; "
                "put it into the same directory"
            )
        try:
            end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
        except ValueError as error:
            raise GraphUnsupported(f"{path.name} states an invalid place of its weights in another file") from error
        if file.stat().st_size < end:
            raise GraphUnsupported(f"{entry['location']}, which holds the weights of {path.name}, is truncated")


def _external_tensors(message: Message) -> Iterator[TensorProto]:
    """Return every tensor whose numbers are in another file, wherever ONNX can hold one.

    These are initializers, dense and sparse, and attributes of nodes, in the graph, in the bodies of If, Loop and Scan,
    in local functions and in the training graphs.
    """
    if isinstance(message, TensorProto):
        if message.data_location == TensorProto.EXTERNAL:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else list(value):
                yield from _external_tensors(part)


def _place(tensor: TensorProto) -> Mapping[str, str]:
    """Return location, offset and length of a tensor in another file."""
    return {"location": "", **{item.key: item.value for item in tensor.external_data}}
