"""JSON objects read strictly: no member twice, no NaN or infinity, no half characters."""

import json
import math
from typing import Any

from service.errors import JsonMalformed, MemberRepeated


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        JsonMalformed: It is none, or holds what JSON or UTF-8 has no place for.
        MemberRepeated: A member is given twice; `part` names it.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        members = json.loads(
            text, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant, parse_float=_finite
        )
        if "\\u" in text:  # the only way for half a character to come in
            json.dumps(members, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise JsonMalformed("the body holds bytes or half characters that are not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise JsonMalformed(f"the body is not JSON: {error}") from error
    if not isinstance(members, dict):
        raise JsonMalformed("the body is JSON, but not an object")
    return members


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        error = MemberRepeated(f"the member {repeated!r} is given several times")
        error.part = repeated.encode("utf-8", "replace").decode()
        raise error
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value
