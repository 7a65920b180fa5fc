"""Read the pickle inside a PyTorch file without running any code that it calls.

A pickle is a program that names functions and classes and calls them. This reader never imports a name. A function
that rebuilds a tensor is replaced by one that records the tensor, a class that only describes a training run by an
inert object, and every other name by a class that raises when called. A file may therefore mention a class of a package
that is not installed, as those of Lightning 1.4 do. A file that calls anything unlisted is rejected, and the error
names the callable.
"""

import io
import pickle
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from models.errors import CheckpointIsModule, CheckpointUnreadable, CheckpointUnsafe, VultusError
from models.pickles import Sealed, SealedType, failing_class, has_large_memo

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
# Types that training code stores in checkpoints besides the weights. They are not read.
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
    """A block of weights in the file; `content` is set when the reader has located it."""

    key: str
    dtype: np.dtype[Any]
    count: int
    content: memoryview | None = None


@dataclass(frozen=True, slots=True)
class StorageView:
    """A part of a storage from an offset in elements, which files older than PyTorch 1.6 may contain."""

    storage: Storage
    offset: int


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """The description of a tensor in the file."""

    source: StorageView
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> NDArray[Any]:
        """Return the tensor as an array, without a copy.

        Raises:
            CheckpointUnreadable: The storage is missing, or the description exceeds its bounds.
        """
        storage, size = self.source.storage, self.dtype.itemsize
        if storage.content is None:
            raise CheckpointUnreadable(f"the checkpoint refers to a missing block of weights: {storage.key}")
        if int(np.prod(self.shape, dtype=object)) * size > len(storage.content):
            raise CheckpointUnreadable("the checkpoint describes a tensor that is larger than its block of weights")
        start = self.source.offset * storage.dtype.itemsize + self.offset * size
        try:
            return np.ndarray(
                self.shape, self.dtype, storage.content, start, tuple(stride * size for stride in self.strides)
            )
        except (OverflowError, TypeError, ValueError) as error:
            raise CheckpointUnreadable("the checkpoint describes a tensor that exceeds its block of weights") from error


class _ElementType:
    """An immutable stand-in for a dtype: a pickle could change a numpy dtype for the whole process."""

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __init__(self, dtype: np.dtype[Any]) -> None:
        object.__setattr__(self, "dtype", dtype)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("a pickle must not change the objects of this process")


class Mapping(dict[Any, Any], metaclass=SealedType):
    """A plain dict that replaces `OrderedDict` and drops its attributes."""

    def __setstate__(self, state: Any) -> None:
        """Drop attributes such as `_metadata`."""


class _Description(metaclass=SealedType):
    """A stand-in for objects that only describe the training run; it accepts and drops any content."""

    def __new__(cls, *_: Any, **__: Any) -> "_Description":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _drop(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _drop


_CALL_REFUSED = (
    "the file calls {}, which weights do not need; refused, and nothing was run "
    "(if you trust the file, load it in the code that created it and save the state_dict alone)"
)


def _refuse(name: str) -> type:
    return failing_class(name, lambda shown: CheckpointUnsafe(_CALL_REFUSED.format(shown)))


def _reconstructor(cls: type, *_: Any) -> Any:
    """Replace `copyreg._reconstructor`, which creates objects in old pickle protocols."""
    return cls()


def _rebuild(source: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorRecord:
    """Replace `torch._utils._rebuild_tensor` (v1, v2, v3): return a record instead of a tensor."""
    view = source if isinstance(source, StorageView) else StorageView(source, 0)
    dtype = next((item.dtype for item in rest if isinstance(item, _ElementType)), view.storage.dtype)
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        raise CheckpointUnreadable("the checkpoint describes a tensor with an invalid shape")
    return TensorRecord(view, offset, tuple(shape), tuple(strides), dtype)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds only dicts, lists, plain values and tensor records."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the inert replacement of a name, without importing it."""
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
        """Record the storage that holds a tensor."""
        kind, *rest = reference
        if kind == "module":
            raise CheckpointIsModule(_PICKLED_MODULE)
        dtype, key, _location, count, *view = rest
        if (
            kind != "storage"
            or not isinstance(dtype, _ElementType)
            or type(count) is not int
            or not isinstance(key, str)
        ):
            raise CheckpointUnreadable("the checkpoint refers to weights in an unknown form")
        storage = self.storages.setdefault(key, Storage(key, dtype.dtype, count))
        if view and view[0] is not None:
            return StorageView(storage, int(view[0][1]))
        return storage


_PICKLED_MODULE = (
    "the file is a pickled module, which only the code that created it can load; "
    "load it there and save its state_dict()"
)


def unpickle(stream: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle from the stream's position, and leave the stream at the end of the pickle.

    Returns:
        The content of the pickle, and by key the storages of its tensors.

    Raises:
        CheckpointUnreadable: The pickle is malformed, truncated or nested too deeply.
        CheckpointUnsafe: The pickle calls something that is not allowed.
        CheckpointIsModule: The pickle is a module rather than its weights.
    """
    start = stream.tell()
    unpickler = _Unpickler(stream)
    try:
        if has_large_memo(stream):
            raise CheckpointUnreadable("the checkpoint's pickle is truncated or corrupt")
        stream.seek(start)
        return unpickler.load(), unpickler.storages
    except CheckpointUnsafe as error:
        stream.seek(start)
        if _holds(stream, _MODULE_CLASSES):
            raise CheckpointIsModule(f"{_PICKLED_MODULE} (it calls {_callable_name(error)})") from error
        raise
    except VultusError:
        raise
    except RecursionError as error:
        raise CheckpointUnreadable("the checkpoint's pickle is nested too deeply") from error
    except Exception as error:  # the opcodes of a corrupt pickle may raise any exception
        raise CheckpointUnreadable("the checkpoint's pickle is truncated or corrupt") from error


def unpickle_bytes(content: bytes) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle from bytes; see `unpickle`."""
    return unpickle(io.BytesIO(content))


def _callable_name(error: CheckpointUnsafe) -> str:
    return str(error).removeprefix("the file calls ").partition(",")[0]


def _holds(stream: IO[bytes], needle: bytes) -> bool:
    """Search the first 64 MiB of a pickle for a name; class names come before the weights."""
    return needle in stream.read(64 * 2**20)
