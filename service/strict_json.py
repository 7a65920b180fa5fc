"""Strict parsing of JSON objects and lists: no repeated members, no NaN or infinity, no unpaired surrogates."""

import json
import math
import re
from collections import Counter
from typing import Any

from service.errors import JsonMalformed, MemberRepeated

_MAX_VALUES = 2_000_000  # 1,024 embeddings of 1,024 numbers are a million
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # an unpaired surrogate can only come from such an escape


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        JsonMalformed: The text is not a JSON object in UTF-8, it contains NaN, infinity or an unpaired surrogate, or it
            has so many values that they would fill the memory.
        MemberRepeated: A member is given more than once; `part` names it.
    """
    members = _parse(text)
    if not isinstance(members, dict):
        raise JsonMalformed("the body is JSON, but not an object")
    return members


def parse_list(text: str | bytes) -> list[Any]:
    """Parse a JSON list.

    Raises:
        JsonMalformed: As `parse_object`, for a list.
        MemberRepeated: A member of an object in it is given more than once; `part` names it.
    """
    values = _parse(text)
    if not isinstance(values, list):
        raise JsonMalformed("the body is JSON, but not a list")
    return values


def _parse(text: str | bytes) -> Any:
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if sum(map(text.count, ",[{")) > _MAX_VALUES:  # each value follows one of these
            raise JsonMalformed(f"the body has more than {_MAX_VALUES:,} values")
        parsed = json.loads(
            text, object_pairs_hook=_refuse_repetition, parse_constant=_refuse_constant, parse_float=_parse_finite
        )
        if _SURROGATE.search(text):
            _refuse_surrogates(parsed)
    except UnicodeError as error:
        raise JsonMalformed("the body is not valid UTF-8, or it contains an unpaired surrogate") from error
    except (ValueError, RecursionError) as error:
        hint = (
            "; write a line end in a string as \\n, or use `base64 -w 0`" if "control character" in str(error) else ""
        )
        raise JsonMalformed(f"the body is not JSON: {error}{hint}") from error
    return parsed


def _refuse_surrogates(parsed: object) -> None:
    """Encode each string on its own: to serialise a body of 64 MB would hold the interpreter for seconds.

    Raises:
        UnicodeEncodeError: A string contains an unpaired surrogate.
    """
    left = [parsed]
    while left:
        value = left.pop()
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            left.extend(value)
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _refuse_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name in counts if counts[name] > 1)
        error = MemberRepeated(f"the member {repeated!r} is given more than once")
        error.part = repeated.encode("utf-8", "replace").decode()
        raise error
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _parse_finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value
