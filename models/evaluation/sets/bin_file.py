"""Reader of the `.bin` sets of insightface: lfw, cfp_fp, agedb_30, calfw, cplfw.

A `.bin` file is a pickle of two lists: 2N encoded images and N booleans. Each image is bytes or the uint8 array that an
encoder returned. Pair i consists of the images 2i and 2i + 1. The published files were written by Python 2.

A pickle is a program that may call any function. This reader builds only lists, tuples, bytes, numbers and stand-ins of
numpy arrays, and refuses a pickle that calls anything else.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable, SetUnsafe, VultusError
from models.evaluation.acquire.pictures import Picture
from models.pickles import Sealed, SealedType, failing_class, irregularity

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


class BinSet(NamedTuple):
    """The content of a `.bin` file.

    Attributes:
        name: Name of the file without its suffix.
        pictures: 2N pictures; pair i consists of the pictures 2i and 2i + 1.
        mated: (N,) bool, whether both pictures of a pair show the same subject.
    """

    name: str
    pictures: list[Picture]
    mated: NDArray[np.bool_]


def read_bin(path: Path) -> BinSet:
    """Read a `.bin` set.

    Raises:
        SetUnreadable: The file is missing, is truncated, or is not a `.bin` set.
        SetUnsafe: The file attempts to run code.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SetUnreadable(f"{path.name} cannot be read: {error.strerror}") from error
    images, labels = _lists(_unpickle(content, path.name), path.name)
    pictures = [
        Picture(f"{path.stem}/{index // 2:05d}{'ab'[index % 2]}", _bytes(image, path.name))
        for index, image in enumerate(images)
    ]
    mated = np.array([_label(label, path.name) for label in labels], np.bool_)
    return BinSet(path.stem, pictures, mated)


class _Array(metaclass=SealedType):
    """Stand-in of a numpy array that stores only its dtype and its bytes."""

    def __init__(self) -> None:
        self.dtype: np.dtype[Any] | None = None
        self.content = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
            raise ValueError("the array does not hold numbers")
        self.dtype, self.content = dtype.dtype, bytes(content)
        if len(content) != self.dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise ValueError("the shape of the array does not match its number of bytes")

    @classmethod
    def of(cls, content: Any, dtype: Any, shape: Any, *_: Any) -> "_Array":
        """Build the stand-in of an array; replaces `numpy.core.numeric._frombuffer`."""
        array = cls()
        array.__setstate__((1, shape, dtype, False, content))
        return array

    def values(self) -> NDArray[Any]:
        """Return the numbers as a one-dimensional array."""
        return np.frombuffer(self.content, self.dtype)


class _Dtype(metaclass=SealedType):
    """Stand-in of a numpy dtype; accepts numbers and booleans of at most 8 bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        self.dtype = np.dtype(str(text))
        if self.dtype.kind not in "buif" or self.dtype.itemsize > 8:
            raise ValueError("the array does not hold numbers")

    def __setstate__(self, state: Any) -> None:
        """Ignore the byte order, which does not matter for the uint8 and bool arrays of a set."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any) -> Any:
    return np.frombuffer(content, dtype.dtype)[0].item()


def _empty_bytes(*arguments: Any) -> bytes:
    """Return empty bytes; replaces `bytes()`, by which old protocols write empty bytes."""
    if arguments:
        raise ValueError("the call of `bytes` has arguments")
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): Sealed(_reconstruct) for module in _MULTIARRAY},
    **{(module, "scalar"): Sealed(_scalar) for module in _MULTIARRAY},
    **{(module, "_frombuffer"): Sealed(_Array.of) for module in _NUMERIC},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "bytes"): Sealed(_empty_bytes),
    ("__builtin__", "bytes"): Sealed(_empty_bytes),
}


class _Unpickler(pickle.Unpickler):
    """Unpickler that builds lists, tuples, bytes, numbers and the stand-ins of numpy arrays only."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")  # a `str` of Python 2 is bytes
        # A file can encode one text many times at a few bytes each, so the total is limited by the size of the file.
        self._encodable = 2 * len(content)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a name. Never imports a module."""
        if (module, name) == ("_codecs", "encode"):
            return Sealed(self._encode)
        allowed = _ALLOWED.get((module, name))
        return allowed if allowed is not None else failing_class(f"{module}.{name}", _unsafe)

    def _encode(self, text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
        """Encode a text as Latin-1; replaces `_codecs.encode`, by which old protocols of Python 3 write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError("the encoding is not latin1")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise ValueError("the encoded bytes exceed what a file of this size can hold")
        return text.encode("latin1")


def _unsafe(name: str) -> SetUnsafe:
    return SetUnsafe(f"the file attempts to run {name}, which no image set needs; nothing was run")


def _unpickle(content: bytes, name: str) -> Any:
    try:
        if (found := irregularity(io.BytesIO(content))) is not None:
            raise SetUnreadable(f"{name} is not a .bin set: its pickle has {found}")
        return _Unpickler(content).load()
    except VultusError:
        raise
    except Exception as error:  # the opcodes of a corrupt pickle can raise any exception
        raise SetUnreadable(f"{name} is truncated or is not a .bin set") from error


def _lists(content: Any, name: str) -> tuple[list[Any], list[Any]]:
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise SetUnreadable(f"{name} does not hold a list of images and a list of labels")
    images, labels = (part.values().tolist() if isinstance(part, _Array) else part for part in content)
    if not isinstance(images, list | tuple) or not isinstance(labels, list | tuple) or len(images) != 2 * len(labels):
        raise SetUnreadable(f"{name} does not hold two images for each label")
    if not labels:
        raise SetUnreadable(f"{name} holds no pairs")
    return list(images), list(labels)


def _bytes(image: Any, name: str) -> bytes:
    if isinstance(image, _Array) and image.dtype == np.uint8:
        return image.content
    if isinstance(image, bytes):
        return image
    raise SetUnreadable(f"{name} holds an image that is neither bytes nor a uint8 array")


def _label(label: Any, name: str) -> bool:
    if isinstance(label, _Array) and label.dtype is not None and len(label.values()) == 1:
        label = label.values()[0].item()
    if label in (0, 1):
        return bool(label)
    raise SetUnreadable(f"{name} holds a label that is neither true nor false")
