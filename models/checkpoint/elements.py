"""The number types of stored weights, by the names of PyTorch, safetensors and numpy.

A type that has no values in numpy, such as a quantised or a sub-byte type, is kept by its name, so that a weight of
this type can be refused by name and is never read as bytes.
"""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True, slots=True)
class Element:
    """The type of a tensor's numbers.

    Attributes:
        name: Name of the type, as PyTorch or numpy call it.
        itemsize: Bytes of one number; 0 if it is unknown or less than one.
        dtype: The numpy type; None if the numbers are not read.
    """

    name: str
    itemsize: int
    dtype: np.dtype[Any] | None = None

    @property
    def is_float(self) -> bool:
        """Whether the numbers are floating-point numbers that are read."""
        return self.dtype is not None and is_floating(self.dtype)


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether a type is a floating-point type of numpy or of ml_dtypes, whose types have another kind."""
    return dtype.kind == "f" or dtype.name in _OF_ML_DTYPES


def unread(name: str, itemsize: int = 0) -> Element:
    """Return the element of a type whose numbers are not read."""
    return Element(name, itemsize)


def element_of(dtype: np.dtype[Any]) -> Element:
    """Return the element of a numpy type; complex numbers, texts, objects and records are not read."""
    if dtype.kind in "biuf" and dtype.itemsize <= _WIDEST:
        return Element(dtype.name, dtype.itemsize, dtype)
    return unread(dtype.name, dtype.itemsize)


_WIDEST = 8  # bytes of float64; longdouble differs between machines
_OF_ML_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}
_OF_NUMPY = {
    name: np.dtype(name)
    for name in (
        *("float64", "float32", "float16", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    )
}
_READ = {name: Element(name, dtype.itemsize, dtype) for name, dtype in (_OF_NUMPY | _OF_ML_DTYPES).items()}
_UNREAD = {
    name: unread(name, itemsize)
    for name, itemsize in {
        **{"complex32": 4, "complex64": 8, "complex128": 16},
        **{"quint8": 1, "qint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1},
        **{"float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1},  # scales, and two numbers in a byte
        **{"bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1, "bits4x2": 1},
        **{f"{sign}int{bits}": 1 for sign in ("", "u") for bits in range(1, 8)},
    }.items()
}
_SYNONYMS = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32"}

TORCH = {**_READ, **_UNREAD, **{synonym: _READ[name] for synonym, name in _SYNONYMS.items()}, "short": _READ["int16"]}
"""By the name of `torch.dtype`."""

STORAGES = {
    "DoubleStorage": TORCH["float64"],
    "FloatStorage": TORCH["float32"],
    "HalfStorage": TORCH["float16"],
    "BFloat16Storage": TORCH["bfloat16"],
    "LongStorage": TORCH["int64"],
    "IntStorage": TORCH["int32"],
    "ShortStorage": TORCH["int16"],
    "CharStorage": TORCH["int8"],
    "ByteStorage": TORCH["uint8"],
    "BoolStorage": TORCH["bool"],
    "UntypedStorage": TORCH["uint8"],
    "ComplexFloatStorage": TORCH["complex64"],
    "ComplexDoubleStorage": TORCH["complex128"],
    "QInt8Storage": TORCH["qint8"],
    "QInt32Storage": TORCH["qint32"],
    "QUInt8Storage": TORCH["quint8"],
    "QUInt4x2Storage": TORCH["quint4x2"],
    "QUInt2x4Storage": TORCH["quint2x4"],
}
"""By the name of the class of a PyTorch storage."""

SAFETENSORS = {
    "F64": TORCH["float64"],
    "F32": TORCH["float32"],
    "F16": TORCH["float16"],
    "BF16": TORCH["bfloat16"],
    "F8_E4M3": TORCH["float8_e4m3fn"],
    "F8_E5M2": TORCH["float8_e5m2"],
    "F8_E4M3FNUZ": TORCH["float8_e4m3fnuz"],
    "F8_E5M2FNUZ": TORCH["float8_e5m2fnuz"],
    "I64": TORCH["int64"],
    "I32": TORCH["int32"],
    "I16": TORCH["int16"],
    "I8": TORCH["int8"],
    "U64": TORCH["uint64"],
    "U32": TORCH["uint32"],
    "U16": TORCH["uint16"],
    "U8": TORCH["uint8"],
    "BOOL": TORCH["bool"],
}
"""By the name in the header of a safetensors file; a name that is not here is not read."""
