"""Programs that call clients in other environments and languages: JSON lines in, JSON lines out.

A call is `{"client": {...}, "method": "name", "arguments": [...]}`. Its outcome is `{"value": ...}` or
`{"error": {...}}` with the class and the message of what the client has thrown.
An argument `{"bytes": path}` is the content of a file.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class CallFailed(Exception):
    """A client has thrown an error.

    Attributes:
        kind: Name of its class.
        message: Its message.
        status: HTTP status of the response, if the client knows it.
        body: Body of the response, if the client knows it.
        attempts: Number of requests, if the client counts them.
        is_known: Whether the client has a class for it.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error['message']}")
        self.kind: str = error["kind"]
        self.message: str = error["message"]
        self.status: int | None = error.get("status")
        self.body: Any = error.get("body")
        self.attempts: int | None = error.get("attempts")
        self.is_known: bool = error.get("known", False)


class Driver:
    """A running program that calls clients."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, client: dict[str, Any], method: str, *arguments: Any) -> Any:
        """Call a method of a client.

        Raises:
            CallFailed: The client has thrown an error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        call = {"client": client, "method": method, "arguments": arguments}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        outcome = json.loads(self._process.stdout.readline())
        if "error" in outcome:
            raise CallFailed(outcome["error"])
        return outcome["value"]


@contextmanager
def driver(command: Sequence[str | Path], directory: Path) -> Iterator[Driver]:
    """Run a program in a directory, to which its paths are relative, until the block ends."""
    with subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"NO_PROXY": "*", "AWS_EC2_METADATA_DISABLED": "true"},
    ) as process:
        yield Driver(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)
