"""Read the pickle inside a PyTorch file without running any code that it calls.

A pickle is a program that names functions and classes and calls them. This reader never imports a name. A function
that rebuilds a tensor is replaced by one that records the tensor, a class that only describes a training run by an
inert object, and every other name by a class whose objects are inert and which raises when called. A file may therefore
mention a class of a package that is not installed, as those of Lightning 1.4 do, and hold objects of it, such as a
configuration. A file that calls anything unlisted is rejected, and the error names the callable.
"""

import io
import os
import pickle
from typing import IO, Any

from models.checkpoint.elements import STORAGES, TORCH
from models.checkpoint.standins import DESCRIPTIONS, STAND_INS, Description, ElementType, Mapping
from models.checkpoint.tensors import Storage, StorageView
from models.errors import CheckpointIsModule, CheckpointUnreadable, CheckpointUnsafe, VultusError
from models.pickles import Sealed, failing_class, irregularity, restorable_class

_NEVER_RESTORED = ("torch.nn.", "torch.jit", "torch.fx", "torch.distributed")  # modules, and parts of a sharded tensor
_MODULE_CLASSES = b"torch.nn.modules"

_MAX_UNKNOWN = 10_000  # names; each costs a class

_CALL_REFUSED = (
    "the file calls {}, which weights do not need; refused, and nothing was run "
    "(if you trust the file, load it in the code that created it and save the state_dict alone)"
)


def _unsafe(shown: str) -> CheckpointUnsafe:
    return CheckpointUnsafe(_CALL_REFUSED.format(shown))


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds only dicts, lists, plain values and the records of tensors."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self._unknown: dict[tuple[str, str], type] = {}
        # A pickle can encode one text or copy one list many times at a few bytes each, so the totals are limited by the
        # size of the file.
        self._encodable = self._copyable = 2 * _size(stream)

    def find_class(self, module: str, name: str) -> Any:
        """Return the inert replacement of a name, without importing it."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) == ("collections", "OrderedDict"):
            return Sealed(self._mapping)
        if (function := STAND_INS.get((module, name))) is not None:
            return function
        if (module, name) == ("_codecs", "encode"):
            return Sealed(self._encode)
        if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
            return ElementType(STORAGES[name])
        if module == "torch" and name in TORCH:
            return ElementType(TORCH[name])
        if name in DESCRIPTIONS.get(module, ()):
            return Description
        if (module, name) not in self._unknown:
            if len(self._unknown) >= _MAX_UNKNOWN:
                raise CheckpointUnreadable("the checkpoint's pickle names more classes than any training code has")
            stand_in = failing_class if f"{module}.".startswith(_NEVER_RESTORED) else restorable_class
            self._unknown[module, name] = stand_in(f"{module}.{name}", _unsafe)
        return self._unknown[module, name]

    def _mapping(self, items: Any = (), *_: Any) -> Mapping:
        """Return a dict of items; replaces `OrderedDict`."""
        self._copyable -= len(items)
        if self._copyable < 0:
            raise CheckpointUnreadable("the checkpoint's pickle copies more items than a file of its size can hold")
        return Mapping(items)

    def _encode(self, text: Any, encoding: Any = "", *_: Any) -> Any:
        """Encode a text as Latin-1; replaces `_codecs.encode`, by which old protocols write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            return Description()
        self._encodable -= len(text)
        if self._encodable < 0:
            raise CheckpointUnreadable("the checkpoint's pickle writes more bytes than a file of its size can hold")
        return text.encode("latin1")

    def persistent_load(self, reference: Any) -> Any:
        """Record the storage that holds a tensor."""
        kind, *rest = reference
        if kind == "module":
            raise CheckpointIsModule(_PICKLED_MODULE)
        stated, key, _location, count, *view = rest
        if (
            kind != "storage"
            or not isinstance(stated, ElementType)
            or type(count) is not int
            or not isinstance(key, str)
        ):
            raise CheckpointUnreadable("the checkpoint refers to weights in an unknown form")
        storage = self.storages.setdefault(key, Storage(key, stated.element, count))
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
        if (found := irregularity(stream)) is not None:
            raise CheckpointUnreadable(f"the checkpoint's pickle has {found}, which no training code writes")
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


def _size(stream: IO[bytes]) -> int:
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return size


def _callable_name(error: CheckpointUnsafe) -> str:
    return str(error).removeprefix("the file calls ").partition(",")[0]


def _holds(stream: IO[bytes], needle: bytes) -> bool:
    """Search the first 64 MiB of a pickle for a name; class names come before the weights."""
    return needle in stream.read(64 * 2**20)
