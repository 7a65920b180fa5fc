"""The running service that a command uses: its address and key, and its errors as those of a command."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from models.errors import VultusError
from service.cli.output import err
from service.client import Client, ClientError, VultusProblem
from service.client.address import KEY_VARIABLE, URL_VARIABLE

Url = Annotated[
    str | None,
    typer.Option(help=f"Address of the service; default: {URL_VARIABLE}, otherwise http://127.0.0.1:8000."),
]
KeyFile = Annotated[
    Path | None, typer.Option(help=f"File with the key; default: {KEY_VARIABLE}, otherwise no key.", dir_okay=False)
]

MAX_PHOTO_BYTES = 48 * 2**20
"""Size above which a photo is not read: as base64 it would be longer than a line may be by default."""


class RemoteFailed(VultusError):
    """The service of another process refused a request or did not answer."""

    code = "remote_failed"


@contextmanager
def connected(url: str | None, key_file: Path | None) -> Iterator[Client]:
    """Yield a client of the service.

    Args:
        url: Address of the service, if the environment does not state it.
        key_file: File with the key, if the environment does not have it.

    Raises:
        RemoteFailed: The address is invalid, or the service refused a request or did not answer.
        OSError: The file of the key cannot be read.
    """
    key = key_file.read_text().strip() if key_file else None
    with warnings.catch_warnings(record=True, action="always") as remarks:
        try:
            client = Client(url, key)
        except ValueError as error:
            raise RemoteFailed(str(error)) from error
    for remark in remarks:
        err.print(f"warning: {remark.message}", highlight=False, soft_wrap=True, markup=False)
    try:
        with client:
            yield client
    except VultusProblem as error:
        request = f", request {error.request_id}" if error.request_id else ""
        raise RemoteFailed(f"{error.detail} ({error.code}{request})") from error
    except ClientError as error:
        raise RemoteFailed(str(error)) from error
