"""A running service and its keys, and the photos that clients send to it."""

import json
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from tests.service.cli.command import vultus

BUCKET = "tenant-photos"  # which the access key of the tests reaches, too

_numbers = count()


def new_name() -> str:
    """Return a name of a gallery that no other test uses, and that the access key of the tests reaches."""
    return f"tenant-{next(_numbers)}"


class Service(NamedTuple):
    """A running service.

    Attributes:
        port: Its port.
        environment: Environment in which commands find its keys.
        buckets: Directory of the objects that requests may name.
    """

    port: int
    environment: dict[str, str]
    buckets: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def key(self, *options: str) -> dict[str, Any]:
        """Make a key with the command for it."""
        done = vultus("keys", "create", f"key of {new_name()}", *options, "--json", env=self.environment)
        assert done.returncode == 0, done.stderr
        made: dict[str, Any] = json.loads(done.stdout)
        return made

    def revoke(self, key: dict[str, Any]) -> None:
        """Revoke a key with the command for it."""
        assert vultus("keys", "revoke", key["id"], env=self.environment).returncode == 0

    def compreface_key(self, service: str = "recognition") -> str:
        """Make a key of CompreFace; one of recognition has a gallery of its own."""
        gallery = ["--gallery", new_name()] if service == "recognition" else []
        text: str = self.key("--compreface", service, *gallery)["key"]
        return text


class Album(NamedTuple):
    """Photos in one directory.

    Attributes:
        directory: The directory.
        people: Photos of each person, with one face each.
        group: A photo with six faces.
        nobody: A photo without a face.
    """

    directory: Path
    people: list[list[Path]]
    group: Path
    nobody: Path
