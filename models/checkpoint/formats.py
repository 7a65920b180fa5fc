"""Tell what a file is by its first bytes. The suffix says nothing: people rename files, and downloads fail."""

from collections.abc import Callable
from typing import Literal, NamedTuple

START_BYTES = 4096
"""How much of the beginning of a file `kind_of` needs."""

Kind = Literal["zip", "pickle", "safetensors"]

_CONVERT = "convert the model to ONNX and give it to: vultus import model.onnx"
_UNPACK = "unpack it, and give the checkpoint inside"
_DOWNLOAD = "download it again"
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_LONGEST_ONNX_VERSION = 0x20


class Foreign(NamedTuple):
    """A format that is not read.

    Attributes:
        name: The format, with its article.
        advice: What the user can do.
        starts: Returns whether a file that begins with these bytes has the format.
    """

    name: str
    advice: str
    starts: Callable[[bytes], bool]

    def sentence(self) -> str:
        """Return the sentence for the user."""
        return f"the file is {self.name}, not a checkpoint; {self.advice}"


def kind_of(start: bytes, size: int) -> Kind | Foreign | None:
    """Return the format of a file.

    Args:
        start: The first `START_BYTES` of the file, or all of it.
        size: Size of the file in bytes.

    Returns:
        The kind of a format that may hold a checkpoint, a known format that is not read, or None for anything else.
    """
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if 2 <= int.from_bytes(start[:8], "little") <= min(_MAX_HEADER, size - 8) and start[8:9] == b"{":
        return "safetensors"
    if (start[:1] == b"\x80" and start[1:2] <= b"\x05") or start.startswith(_OLD_PICKLES):
        return "pickle"
    return next((foreign for foreign in _FOREIGN if foreign.starts(start)), None)


_OLD_PICKLES = (b"(d", b"(lp", b"}q", b"]q", b"ccollections\n", b"L119547037146038801333356L")  # of protocols 0 and 1
_MEMBERS_OF_OLD_PYTORCH = (b"sys_info", b"pickle", b"storages", b"tensors")


def _magic(*magics: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda start: start[at:].startswith(magics)


def _text(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(beginnings)


def _mentions(first: bytes, *words: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(first) and any(word in start for word in words)


def _is_onnx(start: bytes) -> bool:
    """Return whether the bytes are a protobuf message with the version and the next field of an ONNX model."""
    return (
        len(start) > 3
        and start[0] == 0x08
        and 1 < start[1] <= _LONGEST_ONNX_VERSION
        and start[2] in b"\x12\x1a\x22\x28\x32\x3a\x42\x72"
    )


def _is_only_zeros(start: bytes) -> bool:
    return len(start) >= 64 and not any(start)


def _is_plain_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8", "ignore" if len(start) == START_BYTES else "strict")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


_FOREIGN = (
    Foreign("an ONNX graph", "give it to: vultus import", _is_onnx),
    Foreign("an HTML page, most likely of a failed download", _DOWNLOAD, _text(b"<!doctype html", b"<html", b"<head")),
    Foreign("a Git LFS pointer", "fetch the file itself with: git lfs pull", _text(b"version https://git-lfs")),
    Foreign("an XML error message of a failed download", _DOWNLOAD, _mentions(b"<", b"<Error>", b"<Code>")),
    Foreign("an OpenVINO model", "give the model that it was converted from", _mentions(b"<", b"<net ")),
    Foreign("compressed with gzip", _UNPACK, _magic(b"\x1f\x8b")),
    Foreign("compressed with bzip2", _UNPACK, _magic(b"BZh")),
    Foreign("compressed with xz", _UNPACK, _magic(b"\xfd7zXZ\x00")),
    Foreign("compressed with zstd", _UNPACK, _magic(b"\x28\xb5\x2f\xfd")),
    Foreign("compressed with lz4", _UNPACK, _magic(b"\x04\x22\x4d\x18")),
    Foreign("a 7z archive", _UNPACK, _magic(b"7z\xbc\xaf\x27\x1c")),
    Foreign("a RAR archive", _UNPACK, _magic(b"Rar!")),
    Foreign(
        "a tar archive in the form of PyTorch before 0.1.10",
        "load it with a PyTorch of that time and save the state_dict again",
        lambda start: start[257:262] == b"ustar" and start.startswith(_MEMBERS_OF_OLD_PYTORCH),
    ),
    Foreign("a tar archive", _UNPACK, _magic(b"ustar", at=257)),
    Foreign("an empty zip archive", _DOWNLOAD, _magic(b"PK\x05\x06")),
    Foreign("an HDF5 file, as Keras and TensorFlow write (.h5)", _CONVERT, _magic(b"\x89HDF\r\n\x1a\n")),
    Foreign("a TensorFlow Lite model", _CONVERT, _magic(b"TFL3", at=4)),
    Foreign("a TensorFlow SavedModel", _CONVERT, _magic(b"\x08\x01\x12")),
    Foreign("a TensorFlow graph", _CONVERT, _mentions(b"\n", b"Placeholder", b"VariableV2", b"VarHandleOp")),
    Foreign("a Caffe model", _CONVERT, _mentions(b"\n", b"Convolution", b"InnerProduct", b"BatchNorm")),
    Foreign("the index of a TensorFlow checkpoint", _CONVERT, _text(b"model_checkpoint_path")),
    Foreign("the parameters of an MXNet model", _CONVERT, _magic(b"\x12\x01\x00\x00\x00\x00\x00\x00")),
    Foreign("the graph of an MXNet model", _CONVERT, _mentions(b"{", b'"nodes"')),
    Foreign(
        "the index of a checkpoint in several parts",
        "join the parts and save one state_dict",
        _mentions(b"{", b'"weight_map"'),
    ),
    Foreign("an ncnn model", _CONVERT, _text(b"7767517")),
    Foreign("a TensorRT engine", "give the model that it was built from", _magic(b"ftrt", b"ptrt")),
    Foreign("an ExecuTorch program", "give the checkpoint that it was made from", _magic(b"ET12", at=4)),
    Foreign("a GGUF file", "give the checkpoint that it was made from", _magic(b"GGUF")),
    Foreign("a single numpy array (.npy)", "save the weights by their names, as .npz", _magic(b"\x93NUMPY")),
    Foreign("a MATLAB file", "save the weights by their names, as .npz", _magic(b"MATLAB 5.0")),
    Foreign("an image", "give the checkpoint of a network", _magic(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")),
    Foreign("a PDF document", "give the checkpoint of a network", _magic(b"%PDF")),
    Foreign("full of zero bytes, most likely of an interrupted download", _DOWNLOAD, _is_only_zeros),
    Foreign(
        "a Paddle inference model",
        _CONVERT,
        lambda start: start[:16] == b"\0" * 16 and start[20:21] == b"\x08",
    ),
    Foreign("a JSON text", "give the file of the weights", _text(b"{", b"[")),
    Foreign("a plain text", "give the file of the weights", _is_plain_text),
)
