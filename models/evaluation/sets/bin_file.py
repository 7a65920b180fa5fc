"""The `.bin` sets of insightface: lfw, cfp_fp, agedb_30, calfw, cplfw.

A pickle of two lists: 2N encoded images, each as bytes or as the uint8 array that an encoder gave, and N booleans; the
pair i is the images 2i and 2i + 1. The published files were written by Python 2. A pickle is a program; of this one
nothing is run: bytes, arrays of small integers and booleans are all that is built, and any other name is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable, SetUnsafe, VultusError
from models.evaluation.acquire.pictures import Picture
from models.pickles import Sealed, SealedType, has_large_memo, stand_in

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


class BinSet(NamedTuple):
    """What a `.bin` file holds.

    Attributes:
        name: Of the file, without its suffix.
        pictures: 2N; those of pair i are 2i and 2i + 1.
        mated: (N,) whether a pair is of one subject.
    """

    name: str
    pictures: list[Picture]
    mated: NDArray[np.bool_]


def read_bin(path: Path) -> BinSet:
    """Read a `.bin` set.

    Raises:
        SetUnreadable: It is absent, cut off, or holds something else.
        SetUnsafe: It asks to run code.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SetUnreadable(f"{path.name} cannot be read: {error.strerror}") from error
    images, same = _lists(_unpickle(content, path.name), path.name)
    pictures = [
        Picture(f"{path.stem}/{place // 2:05d}{'ab'[place % 2]}", _bytes(image, path.name))
        for place, image in enumerate(images)
    ]
    mated = np.array([_truth(one, path.name) for one in same], np.bool_)
    return BinSet(path.stem, pictures, mated)


class _Array(metaclass=SealedType):
    """Stands for a numpy array: takes its bytes, builds nothing until it is asked."""

    def __init__(self) -> None:
        self.dtype: np.dtype[Any] | None = None
        self.content = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, content = state
        if not isinstance(dtype, _Kind) or not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
            raise ValueError("an array of something else than numbers")
        self.dtype, self.content = dtype.dtype, bytes(content)
        if len(content) != self.dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise ValueError("an array whose size is not that of its bytes")

    @classmethod
    def of(cls, content: Any, dtype: Any, shape: Any, *_: Any) -> "_Array":
        """Stand for `numpy.core.numeric._frombuffer`."""
        array = cls()
        array.__setstate__((1, shape, dtype, False, content))
        return array

    def values(self) -> NDArray[Any]:
        """Return the numbers, in one dimension."""
        return np.frombuffer(self.content, self.dtype)


class _Kind(metaclass=SealedType):
    """Stands for a numpy dtype; only integers and booleans are known."""

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        self.dtype = np.dtype(str(text))
        if self.dtype.kind not in "buif" or self.dtype.itemsize > 8:
            raise ValueError("an array of something else than numbers")

    def __setstate__(self, state: Any) -> None:
        """Take the byte order: the one that matters here is the same everywhere."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any) -> Any:
    return np.frombuffer(content, dtype.dtype)[0].item()


def _no_bytes(*given: Any) -> bytes:
    """Stand for `bytes()`, which is how old protocols write none."""
    if given:
        raise ValueError("bytes of something")
    return b""


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): Sealed(_reconstruct) for module in _MULTIARRAY},
    **{(module, "scalar"): Sealed(_scalar) for module in _MULTIARRAY},
    **{(module, "_frombuffer"): Sealed(_Array.of) for module in _NUMERIC},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("builtins", "bytes"): Sealed(_no_bytes),
    ("__builtin__", "bytes"): Sealed(_no_bytes),
}


class _Unpickler(pickle.Unpickler):
    """Builds lists, tuples, bytes, booleans and the stand-ins of arrays."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")  # what Python 2 called a string
        self._may_encode = 2 * len(content)  # one text may be encoded again and again, at a few bytes each

    def find_class(self, module: str, name: str) -> Any:
        """Answer a name with something inert of our own. Never imports."""
        if (module, name) == ("_codecs", "encode"):
            return Sealed(self._encode)
        found = _KNOWN.get((module, name))
        return found if found is not None else stand_in(f"{module}.{name}", _unsafe)

    def _encode(self, text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
        """Stand for `_codecs.encode`, by which old protocols of Python 3 write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError("an encoding that no set needs")
        self._may_encode -= len(text)
        if self._may_encode < 0:
            raise ValueError("more bytes than such a file can hold")
        return text.encode("latin1")


def _unsafe(name: str) -> SetUnsafe:
    return SetUnsafe(f"the file asks to run {name}, which no set of images needs; refused, and nothing was run")


def _unpickle(content: bytes, name: str) -> Any:
    try:
        if has_large_memo(io.BytesIO(content)):
            raise SetUnreadable(f"{name} is cut off or is no .bin set")
        return _Unpickler(content).load()
    except VultusError:
        raise
    except Exception as error:  # a broken pickle may raise whatever its opcodes lead to
        raise SetUnreadable(f"{name} is cut off or is no .bin set") from error


def _lists(held: Any, name: str) -> tuple[list[Any], list[Any]]:
    if not isinstance(held, tuple | list) or len(held) != 2:
        raise SetUnreadable(f"{name} does not hold a list of images and a list of truths")
    images, same = (one.values().tolist() if isinstance(one, _Array) else one for one in held)
    if not isinstance(images, list | tuple) or not isinstance(same, list | tuple) or len(images) != 2 * len(same):
        raise SetUnreadable(f"{name} does not hold two images for each of its truths")
    if not same:
        raise SetUnreadable(f"{name} holds no pairs")
    return list(images), list(same)


def _bytes(image: Any, name: str) -> bytes:
    if isinstance(image, _Array) and image.dtype == np.uint8:
        return image.content
    if isinstance(image, bytes):
        return image
    raise SetUnreadable(f"{name} holds an image that is neither bytes nor an array of them")


def _truth(one: Any, name: str) -> bool:
    if isinstance(one, _Array) and one.dtype is not None and len(one.values()) == 1:
        one = one.values()[0].item()
    if one in (0, 1):
        return bool(one)
    raise SetUnreadable(f"{name} holds a truth that is neither true nor false")
