"""The shape of JSON: names of members and types of values, without the values."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SNAPSHOTS = Path(__file__).parent.parent / "shapes"


def shape(value: Any) -> Any:
    """Return the shape of a JSON value; the elements of a list have one in common."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return [merged([shape(element) for element in value])] if value else []
    names: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names[type(value)]


def merged(shapes: list[Any]) -> Any:
    """Return one shape for several; a member that not all of them have is marked by `?`."""
    if all(isinstance(one, dict) for one in shapes):
        common = {}
        for name in sorted({name for one in shapes for name in one}):
            found = [one[name] for one in shapes if name in one]
            common[name if len(found) == len(shapes) else f"{name}?"] = merged(found)
        return common
    if all(isinstance(one, list) for one in shapes):
        elements = [element for one in shapes for element in one]
        return [merged(elements)] if elements else []
    distinct = sorted(set(map(str, shapes)))
    return " or ".join(distinct)


def require_reviewed(name: str, shapes: dict[str, Any]) -> None:
    """Compare shapes of answers with the reviewed ones, or write them with REVIEW_COMPAT=1."""
    path = SNAPSHOTS / f"{name}.json"
    if os.environ.get("REVIEW_COMPAT"):
        path.write_text(json.dumps(shapes, indent=1) + "\n")
    assert shapes == json.loads(path.read_text())
