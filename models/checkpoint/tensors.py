"""Tensors as a file describes them: their shape and type are known at once, their numbers are read when needed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.elements import Element, element_of, unread
from models.errors import CheckpointUnreadable
from models.pickles import SealedType

MAX_DIMENSIONS = 64  # of numpy and torch


@dataclass(slots=True)
class Storage:
    """A block of weights in the file; `content` is set when the reader has located it."""

    key: str
    element: Element
    count: int
    content: memoryview | None = None

    def __setstate__(self, state: Any) -> None:
        """Drop attributes, which a pickle may set."""


@dataclass(frozen=True, slots=True)
class StorageView:
    """A part of a storage from an offset in elements, which files older than PyTorch 1.6 may contain."""

    storage: Storage
    offset: int

    def __setstate__(self, state: Any) -> None:
        """Drop attributes, which a pickle may set."""


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """A tensor of PyTorch: a window into a storage."""

    source: StorageView
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: Element

    def __setstate__(self, state: Any) -> None:
        """Drop attributes, which a pickle may set."""

    def array(self) -> NDArray[Any]:
        """Return the tensor as an array, without a copy.

        Raises:
            CheckpointUnreadable: The storage is missing, or the description exceeds its bounds.
        """
        storage, size, dtype = self.source.storage, self.element.itemsize, self.element.dtype
        if storage.content is None:
            raise CheckpointUnreadable(f"the checkpoint refers to a missing block of weights: {storage.key[:80]}")
        if int(np.prod(self.shape, dtype=object)) * size > len(storage.content):
            raise CheckpointUnreadable("the checkpoint describes a tensor that is larger than its block of weights")
        start = self.source.offset * storage.element.itemsize + self.offset * size
        try:
            strides = tuple(stride * size for stride in self.strides)
            return np.ndarray(self.shape, dtype, storage.content, start, strides)
        except (OverflowError, TypeError, ValueError) as error:
            raise CheckpointUnreadable("the checkpoint describes a tensor that exceeds its block of weights") from error


@dataclass(frozen=True, slots=True)
class BlockTensor:
    """A tensor whose numbers lie in one block, as in safetensors."""

    shape: tuple[int, ...]
    element: Element
    content: memoryview

    def __setstate__(self, state: Any) -> None:
        """Drop attributes, which a pickle may set."""

    def array(self) -> NDArray[Any]:
        """Return the numbers, without a copy."""
        try:
            return np.ndarray(self.shape, self.element.dtype, self.content)
        except (OverflowError, TypeError, ValueError) as error:
            raise CheckpointUnreadable("the checkpoint describes a tensor that exceeds its block of weights") from error


def unread_tensor(form: str) -> BlockTensor:
    """Return the record of a tensor whose numbers are in a form that is not read."""
    return BlockTensor((), unread(form), memoryview(b""))


class NumpyType(metaclass=SealedType):
    """Stand-in of a pickled numpy dtype."""

    __slots__ = ("element",)

    def __init__(self, code: Any = "", *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        try:
            self.element = element_of(np.dtype(text)) if isinstance(text, str) else unread("object")
        except (TypeError, ValueError):
            self.element = unread(str(text)[:40])

    def __setstate__(self, state: Any) -> None:
        """Take over the byte order."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if self.element.dtype is not None and order in ("<", ">"):
            dtype = self.element.dtype.newbyteorder("<" if order == "<" else ">")
            self.element = Element(self.element.name, dtype.itemsize, dtype)


class NumpyArray(metaclass=SealedType):
    """Stand-in of a pickled numpy array."""

    __slots__ = ("_content", "_fortran", "element", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.element = unread("nothing")
        self._fortran = False
        self._content: bytes | bytearray = b""

    def __setstate__(self, state: Any) -> None:
        """Take over shape, type and bytes.

        Raises:
            ValueError: They do not belong together.
        """
        _, shape, kind, fortran, content = state
        if (
            not isinstance(shape, tuple)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise ValueError("the array has no valid shape")
        if not isinstance(kind, NumpyType):
            raise ValueError("the array has no valid type")
        self.shape, self.element, self._fortran = shape, kind.element, fortran is True
        if self.element.dtype is None:
            return
        if not isinstance(content, bytes | bytearray):
            raise ValueError("the array does not hold numbers")
        if len(content) != self.element.itemsize * int(np.prod(shape, dtype=object)):
            raise ValueError("the shape of the array does not match its number of bytes")
        self._content = content  # without a copy, because a pickle may state the same bytes for many arrays

    @classmethod
    def of(cls, content: Any, kind: Any, shape: Any, order: Any = "C") -> "NumpyArray":
        """Build the stand-in from its parts; replaces `numpy.core.numeric._frombuffer`."""
        array = cls()
        array.__setstate__((1, shape, kind, order == "F", content))
        return array

    def array(self) -> NDArray[Any]:
        """Return the numbers in the byte order of this machine."""
        assert self.element.dtype is not None
        stored = np.ndarray(self.shape, self.element.dtype, self._content, order="F" if self._fortran else "C")
        # a copy, because torch warns about arrays that cannot be written to
        return stored.astype(self.element.dtype.newbyteorder("="))


@dataclass(frozen=True, slots=True, eq=False)
class HeldArray:
    """An array that was read already."""

    held: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return self.held.shape

    @property
    def element(self) -> Element:
        """The type of the numbers."""
        return element_of(self.held.dtype)

    def array(self) -> NDArray[Any]:
        """Return the numbers in the byte order of this machine."""
        return self.held.astype(self.held.dtype.newbyteorder("="), copy=False)


Tensor = TorchTensor | BlockTensor | NumpyArray | HeldArray
"""`array()` returns the numbers; it may be called only if `element.dtype` is not None."""
