"""Whether the values of a JSON document have the types that a class states for its members."""

import math
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

_LARGEST = 1e30  # of a number; a float that is larger in JSON is infinite or has no meaning here


def has_type(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON has a type: str, bool, int, float, dict, list, None, `Any` or a union of these.

    Numbers must be finite, texts must be encodable, and `Any` is checked for both at every depth.
    """
    if hint is Any:
        hint = str | bool | float | None | dict[str, Any] | list[Any]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(has_type(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(
            has_type(key, inner[0]) and has_type(item, inner[1]) for key, item in value.items()
        )
    if origin is list:
        return isinstance(value, list) and all(has_type(item, inner[0]) for item in value)
    if hint in (int, float):
        number = type(value) is int or (hint is float and type(value) is float)
        return number and (type(value) is int or math.isfinite(value)) and abs(value) < _LARGEST
    if hint is str:
        return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return type(value) is type(None) if hint is type(None) else isinstance(value, hint)


def is_file_name(name: str) -> bool:
    """Return whether a text is the name of a file in a directory, without a path."""
    return name.isprintable() and len(name) < 256 and name not in ("", ".", "..") and Path(name).name == name
