"""Calls methods of compreface-sdk, in an environment of its own, for another process; see `driver.py`."""

import json
import sys
from pathlib import Path
from typing import Any

from compreface import CompreFace
from compreface.exceptions import IncorrectFieldException


def argument(value: Any) -> Any:
    return Path(value["bytes"]).read_bytes() if isinstance(value, dict) and set(value) == {"bytes"} else value


def outcome(client: dict[str, Any], method: str, arguments: list[Any]) -> dict[str, Any]:
    sdk = CompreFace("http://127.0.0.1", str(client["port"]), client["options"])
    owner = getattr(sdk, f"init_face_{client['service']}")(client["key"])
    *getters, name = method.split(".")
    for getter in getters:
        owner = getattr(owner, getter)()
    try:
        return {"value": getattr(owner, name)(*map(argument, arguments))}
    except (Exception, IncorrectFieldException) as error:  # the latter is no Exception
        return {"error": {"kind": type(error).__name__, "message": str(error)}}


for line in sys.stdin:
    print(json.dumps(outcome(**json.loads(line))), flush=True)
