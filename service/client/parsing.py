"""Members of an answer as the dataclasses of `schemas`; members that those lack are ignored."""

import base64
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import orjson
from numpy.typing import NDArray

from service.client.errors import NoAnswer

Schema = TypeVar("Schema")


def parse(text: bytes) -> Any:
    """Parse JSON.

    Raises:
        NoAnswer: The text is not JSON, so the service did not write it.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NoAnswer(f"what answered is not the service: {error}") from error


def read(kind: type[Schema], members: Any) -> Schema:
    """Return the members of an answer as a dataclass.

    Args:
        kind: A dataclass of `schemas`.
        members: The parsed JSON.

    Raises:
        NoAnswer: The members are not those of the dataclass.
    """
    annotation: Any = kind
    try:
        instance: Schema = _reader(annotation)(members)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NoAnswer(f"what answered is not the service: its answer is no {kind.__name__}") from error
    return instance


@cache
def _reader(annotation: Any) -> Callable[[Any], Any]:
    """Return the function that reads the value of an annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation):
        return _reader_of_members(annotation)
    if origin in (Union, UnionType):
        (inner,) = (_reader(argument) for argument in arguments if argument is not type(None))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        inner = _reader(arguments[0])
        return lambda values: tuple(map(inner, values))
    if origin is np.ndarray:
        return _read_embedding
    return lambda value: value


def _reader_of_members(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = {entry.name: _reader(hints[entry.name]) for entry in fields(kind)}
    required = {entry.name for entry in fields(kind) if entry.default is MISSING}

    def read_members(members: Any) -> Any:
        given = {name: reader(members[name]) for name, reader in readers.items() if name in members or name in required}
        return kind(**given)

    return read_members


def _read_embedding(value: Any) -> NDArray[np.float32]:
    """Return (D,) float32 from base64 of little-endian float32, or from a list of numbers."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
    return np.asarray(value, np.float32)
