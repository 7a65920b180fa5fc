"""Read the pickle inside a PyTorch file without running anything that it asks for.

A pickle is a program: it names functions and classes and calls them. Here a name never leads to an import. What
rebuilds tensors becomes our own record of the tensor, what only describes a training run is replaced by an inert
object, and every other name by a class that refuses to be called. So a file may mention a class of a package that is
not installed, as Lightning 1.4 does, but a file that calls anything unlisted is refused with the name of what it
wanted.
"""

import io
import pickle
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from models.errors import CheckpointIsModule, CheckpointUnreadable, CheckpointUnsafe, VultusError
from models.pickles import Sealed, SealedType, has_large_memo, stand_in

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "UntypedStorage": np.uint8,
}
_ELEMENTS = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}
# What training code leaves in its checkpoints beside the weights, and nothing here reads.
_DESCRIPTIONS = {
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
    ("builtins", "slice"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "Size"),
    ("torch", "device"),
}
_REBUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
_MODULE_CLASSES = b"torch.nn.modules"


@dataclass(slots=True)
class Storage:
    """A block of numbers in the file; `content` is set when the reader has found it."""

    key: str
    dtype: np.dtype[Any]
    count: int
    content: memoryview | None = None


@dataclass(frozen=True, slots=True)
class StorageView:
    """A part of a storage, in elements; files older than PyTorch 1.6 may hold such."""

    storage: Storage
    offset: int


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor as the file describes it."""

    source: StorageView
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> NDArray[Any]:
        """Return the numbers, without a copy.

        Raises:
            CheckpointUnreadable: The description leads out of the storage.
        """
        storage, size = self.source.storage, self.dtype.itemsize
        if storage.content is None:
            raise CheckpointUnreadable(f"the checkpoint names a block of weights that it does not hold: {storage.key}")
        if int(np.prod(self.shape, dtype=object)) * size > len(storage.content):
            raise CheckpointUnreadable("the checkpoint describes a tensor that is larger than its block of weights")
        start = self.source.offset * storage.dtype.itemsize + self.offset * size
        try:
            return np.ndarray(
                self.shape, self.dtype, storage.content, start, tuple(stride * size for stride in self.strides)
            )
        except (OverflowError, TypeError, ValueError) as error:
            raise CheckpointUnreadable("the checkpoint describes a tensor that leads out of its block") from error


class _ElementType:
    """Stands for a type of numbers. A numpy dtype in its place could be changed by the file, for the whole process."""

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __init__(self, dtype: np.dtype[Any]) -> None:
        object.__setattr__(self, "dtype", dtype)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("a change of what is not its own")


class Mapping(dict[Any, Any], metaclass=SealedType):
    """A plain dict in the place of `OrderedDict`; attributes hung on it are dropped."""

    def __setstate__(self, state: Any) -> None:
        """Drop what is hung on it, such as `_metadata`."""


class _Description(metaclass=SealedType):
    """Stands for something that only describes the training run. Takes everything, keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Description":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _drop(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _drop


_CALLED = (
    "the file asks to run {}, which is not among what weights need; refused "
    "(if you trust the file, load it where it was made and save the state_dict alone)"
)


def _refuse(name: str) -> type:
    return stand_in(name, lambda shown: CheckpointUnsafe(_CALLED.format(shown)))


def _reconstructor(cls: type, *_: Any) -> Any:
    """Stands for `copyreg._reconstructor`, by which old protocols make objects."""
    return cls()


def _rebuild(source: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorRecord:
    """Stands for torch._utils._rebuild_tensor (v1, v2, v3)."""
    view = source if isinstance(source, StorageView) else StorageView(source, 0)
    dtype = next((item.dtype for item in rest if isinstance(item, _ElementType)), view.storage.dtype)
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        raise CheckpointUnreadable("the checkpoint describes a tensor with an impossible shape")
    return TensorRecord(view, offset, tuple(shape), tuple(strides), dtype)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """Builds dicts, lists, plain values and tensor records, and nothing else."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Answer a name with something inert of our own. Never imports."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) == ("collections", "OrderedDict"):
            return Mapping
        if module == "torch._utils" and name in _REBUILDERS:
            return Sealed(_rebuild)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return Sealed(_rebuild_parameter)
        if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
            return _ElementType(np.dtype(_STORAGES[name]))
        if module == "torch" and name in _ELEMENTS:
            return _ElementType(np.dtype(_ELEMENTS[name]))
        if (module, name) == ("copyreg", "_reconstructor"):
            return Sealed(_reconstructor)
        if (module, name) in _DESCRIPTIONS:
            return _Description
        return _refuse(f"{module}.{name}")

    def persistent_load(self, reference: Any) -> Any:
        """Note the storage that a tensor lies in."""
        kind, *rest = reference
        if kind == "module":
            raise CheckpointIsModule(_WHOLE_MODULE)
        dtype, key, _location, count, *view = rest
        if (
            kind != "storage"
            or not isinstance(dtype, _ElementType)
            or type(count) is not int
            or not isinstance(key, str)
        ):
            raise CheckpointUnreadable("the checkpoint refers to weights in a way that is not known")
        storage = self.storages.setdefault(key, Storage(key, dtype.dtype, count))
        if view and view[0] is not None:
            return StorageView(storage, int(view[0][1]))
        return storage


_WHOLE_MODULE = (
    "the file is a whole pickled module, which only the code that made it can open; "
    "load it there and save its state_dict()"
)


def unpickle(stream: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle from where the stream stands, and leave the stream behind it.

    Returns:
        What it holds, and the storages that its tensors lie in by key.

    Raises:
        CheckpointUnreadable: It is cut off or is no pickle.
        CheckpointUnsafe: It calls something that is not on the list.
        CheckpointIsModule: It is a whole pickled module.
    """
    start = stream.tell()
    unpickler = _Unpickler(stream)
    try:
        if has_large_memo(stream):
            raise CheckpointUnreadable("the checkpoint's pickle is cut off or broken")
        stream.seek(start)
        return unpickler.load(), unpickler.storages
    except CheckpointUnsafe as error:
        stream.seek(start)
        if _holds(stream, _MODULE_CLASSES):
            raise CheckpointIsModule(f"{_WHOLE_MODULE} ({_wanted(error)})") from error
        raise
    except VultusError:
        raise
    except RecursionError as error:
        raise CheckpointUnreadable("the checkpoint's pickle is nested too deeply") from error
    except Exception as error:  # a broken pickle may raise whatever its opcodes lead to
        raise CheckpointUnreadable("the checkpoint's pickle is cut off or broken") from error


def unpickle_bytes(content: bytes) -> tuple[Any, dict[str, Storage]]:
    """Read a pickle that is there as a whole; see `unpickle`."""
    return unpickle(io.BytesIO(content))


def _wanted(error: CheckpointUnsafe) -> str:
    return str(error).removeprefix("the file asks to run ").partition(",")[0]


def _holds(stream: IO[bytes], needle: bytes) -> bool:
    """Look for a name in the first megabytes of a pickle; class names come before the numbers."""
    return needle in stream.read(64 * 2**20)
