"""The inert replacements of what a checkpoint's pickle may name and call: tensors are recorded, the rest is dropped."""

from typing import Any

from models.checkpoint.elements import Element, unread
from models.checkpoint.tensors import (
    MAX_DIMENSIONS,
    BlockTensor,
    NumpyArray,
    NumpyType,
    StorageView,
    TorchTensor,
    unread_tensor,
)
from models.errors import CheckpointUnreadable
from models.pickles import Sealed, SealedType

# What training code stores in checkpoints besides the weights, by the module that a pickle names. It is not read.
DESCRIPTIONS = {
    "argparse": {"Namespace"},
    "builtins": {"bytearray", "complex", "frozenset", "object", "range", "set", "slice", "xrange"},
    "collections": {"Counter", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "http": {"HTTPMethod", "HTTPStatus"},
    "ipaddress": {"IPv4Address", "IPv6Address"},
    "numpy": {"bool_", "datetime64", "float64", "int64", "timedelta64"},
    "numpy.core.multiarray": {"scalar"},
    "numpy._core.multiarray": {"scalar"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"},
    "numpy.random.bit_generator": {"__pyx_unpickle_SeedSequence"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "re": {"_compile"},
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "uuid": {"SafeUUID", "UUID"},
}
_REBUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2"}
_REBUILD_AROUND = {  # functions that take a complete tensor
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_xla_tensor",
}
# Tensors without numbers in a form that can be read, by the function that rebuilds them.
_REBUILD_OTHER = {
    "_rebuild_meta_tensor_no_storage": "a meta tensor without numbers",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_wrapper_subclass": "a tensor of an own class",
}
_TENSOR_CLASSES = {
    ("torch", "Tensor"),
    ("torch._tensor", "Tensor"),
    ("torch.nn.parameter", "Buffer"),
    ("torch.nn.parameter", "Parameter"),
}


class ElementType:
    """An immutable stand-in for a dtype: a pickle could change an object of this process."""

    __slots__ = ("element",)
    element: Element

    def __init__(self, element: Element) -> None:
        object.__setattr__(self, "element", element)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("a pickle must not change the objects of this process")


class Mapping(dict[Any, Any], metaclass=SealedType):
    """A plain dict that replaces `OrderedDict` and drops its attributes."""

    def __setstate__(self, state: Any) -> None:
        """Drop attributes such as `_metadata`."""


class Description(metaclass=SealedType):
    """A stand-in for objects that only describe the training run; it accepts and drops any content."""

    def __new__(cls, *_: Any, **__: Any) -> "Description":
        """Accept any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _drop(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _drop


class _Items(Mapping):
    """A dict whose class takes arguments, such as `defaultdict`; it keeps the items."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


class _PlainTensor(metaclass=SealedType):
    """Stand-in of the classes of tensors whose numbers are those of their storage."""


def _reconstructor(cls: Any, *_: Any) -> Any:
    """Replace `copyreg._reconstructor`, which creates objects in old pickle protocols."""
    return cls.__new__(cls)


def _rebuild(source: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TorchTensor:
    """Replace `torch._utils._rebuild_tensor` (v1, v2): return a record instead of a tensor."""
    _refuse_lazy(rest)
    view = source if isinstance(source, StorageView) else StorageView(source, 0)
    return _record(view, offset, shape, strides, view.storage.element)


def _rebuild_with_type(source: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TorchTensor:
    """Replace `torch._utils._rebuild_tensor_v3`, which states a type that no class of storages has."""
    _refuse_lazy(rest)
    view = source if isinstance(source, StorageView) else StorageView(source, 0)
    kind = rest[2]
    element = kind.element if isinstance(kind, ElementType) else unread(_name_of(kind))
    return _record(view, offset, shape, strides, element)


def _refuse_lazy(rest: tuple[Any, ...]) -> None:
    """Refuse a tensor whose numbers are to be negated or conjugated when they are read.

    Raises:
        CheckpointUnreadable: The tensor is marked so.
    """
    if any(isinstance(entry, dict) and (entry.get("neg") or entry.get("conj")) for entry in rest):
        raise CheckpointUnreadable(
            "the checkpoint has a negated or conjugated view; save `tensor.resolve_neg()` instead"
        )


def _record(view: StorageView, offset: Any, shape: Any, strides: Any, element: Element) -> TorchTensor:
    many = max(len(shape), len(strides)) > MAX_DIMENSIONS
    numbers = () if many else (offset, *shape, *strides)
    if many or not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        raise CheckpointUnreadable("the checkpoint describes a tensor with an invalid shape")
    return TorchTensor(view, offset, tuple(shape), tuple(strides), element)


def _rebuild_quantised(source: Any, *_: Any) -> BlockTensor:
    """Replace `torch._utils._rebuild_qtensor`: the numbers need a scale, and are not read."""
    view = source if isinstance(source, StorageView) else StorageView(source, 0)
    return unread_tensor(view.storage.element.name)


def _rebuild_subclass(rebuild: Any, cls: Any, arguments: Any, *_: Any) -> Any:
    """Replace `torch._tensor._rebuild_from_type_v2`, which adds a class and attributes to a rebuilt tensor."""
    if not isinstance(rebuild, Sealed):
        raise CheckpointUnreadable("the checkpoint describes a tensor in an unknown form")
    tensor = rebuild(*arguments)
    return tensor if cls is _PlainTensor else unread_tensor(f"a tensor of the class {_name_of(cls)}")


def _name_of(stand_in: Any) -> str:
    shown = getattr(stand_in, "shown", "")
    return shown if isinstance(shown, str) and shown else "an unknown type"


def _rebuild_around(tensor: Any, *_: Any) -> Any:
    return tensor


def _reconstruct(*_: Any) -> NumpyArray:
    """Replace `numpy.core.multiarray._reconstruct`."""
    return NumpyArray()


STAND_INS: dict[tuple[str, str], Any] = {
    **{("torch._utils", name): Sealed(_rebuild) for name in _REBUILDERS},
    ("torch._utils", "_rebuild_tensor_v3"): Sealed(_rebuild_with_type),
    ("torch._utils", "_rebuild_qtensor"): Sealed(_rebuild_quantised),
    **{("torch._utils", name): Sealed(_rebuild_around) for name in _REBUILD_AROUND},
    **{
        ("torch._utils", name): Sealed(lambda *_, form=form: unread_tensor(form))
        for name, form in _REBUILD_OTHER.items()
    },
    ("torch._tensor", "_rebuild_from_type_v2"): Sealed(_rebuild_subclass),
    **dict.fromkeys(_TENSOR_CLASSES, _PlainTensor),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Sealed(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Sealed(NumpyArray.of) for core in ("core", "_core")},
    ("numpy", "dtype"): NumpyType,
    ("copyreg", "_reconstructor"): Sealed(_reconstructor),
    ("collections", "defaultdict"): _Items,
}
