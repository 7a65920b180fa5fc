"""`vultus keys`: make, list, rotate and revoke keys, beside a running service or without one."""

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from models.errors import StorageFailed
from models.text import printable
from service.audit.records import Event
from service.cli.auditing import audited, opened_keys
from service.cli.output import out, say
from service.errors import KeyInvalid
from service.security.keys.protocols import (
    REKOGNITION_SCOPES,
    SERVICE_SCOPES,
    CompreFaceService,
    Protocol,
    access_key_id,
)
from service.security.keys.rates import parse_lifetime
from service.security.keys.store import Key, KeyRequest
from service.security.keys.tokens import Token
from service.security.scopes import SCOPES, Scope, in_order
from service.times import written_time

app = typer.Typer(
    help="Make, list, rotate and revoke keys of programs that use the service.",
    no_args_is_help=True,
    add_completion=False,
)

Reference = Annotated[str, typer.Argument(help="Id or name of a key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name by which you know the key.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"What it may do, separated by commas or repeated: {', '.join(SCOPES)}."),
    ] = None,
    gallery: Annotated[
        list[str] | None,
        typer.Option(
            help="Gallery that it reaches, or beginning of names with * at its end; repeatable. Default: all."
        ),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Maximum rate of its requests, such as 50/s or 100/min.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Maximum number of its requests at the same time.")] = None,
    expires: Annotated[str | None, typer.Option(help="Time after which it expires, such as 12h or 90d.")] = None,
    compreface: Annotated[
        str | None,
        typer.Option(
            metavar="SERVICE",
            help="Make a key for clients of CompreFace, of one of its services: recognition (with --gallery), "
            "detection or verification.",
        ),
    ] = None,
    aws: Annotated[bool, typer.Option("--aws", help="Make an access key for clients of Amazon Rekognition.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. It is shown once; only a digest of it is stored."""
    protocol, service, scopes = _protocol(scope, compreface, aws)
    lifetime = None if expires is None else parse_lifetime(expires)
    with opened_keys() as keys, audited("vultus keys create", keys) as record:
        request = KeyRequest(name, scopes, gallery or None, rate, concurrency, lifetime, protocol, service)
        key, _ = keys.create(request, partial(_show_new, as_json=as_json))
        record([Event("create_key", key=key.id)])


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List all keys, oldest first, also those that are revoked or have expired."""
    with opened_keys() as keys:
        found = keys.list_all()
    if as_json:
        say(json.dumps([key.described() for key in found]))
        return
    table = Table("id", "name", "protocol", "scopes", "galleries", "limits", "state", "last used")
    for column in table.columns:
        column.overflow = "fold"  # names must not be truncated
    now = time.time()
    for key in found:
        limits = [key.rate, None if key.concurrency is None else f"{key.concurrency} at once"]
        table.add_row(
            key.id,
            escape(printable(key.name)),
            " ".join(filter(None, (key.protocol, key.service))),
            ", ".join(in_order(key.grant.scopes)),
            "all" if key.grant.galleries is None else escape(printable(", ".join(key.grant.galleries))),
            ", ".join(filter(None, limits)) or "none",
            _state(key, now),
            "never" if key.last_used is None else written_time(key.last_used),
        )
    out.print(table)


@app.command()
def revoke(reference: Reference, as_json: AsJson = False) -> None:
    """Revoke a key at once; a name stands for all live keys of that name."""
    with opened_keys() as keys:
        revoked = keys.revoke(reference)  # also if it cannot be recorded
        with audited("vultus keys revoke", keys) as record:
            record([Event("revoke_key", key=key.id) for key in revoked])
    if as_json:
        say(json.dumps([key.described() for key in revoked]))
        return
    for key in revoked:
        say(f"{key.id} ({key.name}) is revoked")


@app.command()
def rotate(
    reference: Reference,
    overlap: Annotated[str, typer.Option(help="Time for which the old key stays valid, such as 0s or 24h.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """Make a successor of a key with the same rights, and print it; the old key expires after the overlap."""
    overlap_s = parse_lifetime(overlap)
    with opened_keys() as keys, audited("vultus keys rotate", keys) as record:
        key, _ = keys.rotate(reference, overlap_s, partial(_show_new, as_json=as_json))
        record([Event("rotate_key", key=key.id)])


def _protocol(
    scope: list[str] | None, compreface: str | None, aws: bool
) -> tuple[Protocol, CompreFaceService | None, Sequence[Scope]]:
    """Return the protocol of a new key, its service and its scopes.

    Raises:
        KeyInvalid: The options do not go together, or a word is not a scope or a service.
    """
    if (scope is not None) + (compreface is not None) + aws != 1:
        raise KeyInvalid("give one of --scope, --compreface and --aws; the last two have the scopes of their clients")
    if scope is not None:
        return "vultus", None, [_scope(word) for words in scope for word in words.split(",")]
    if aws:
        return "rekognition", None, REKOGNITION_SCOPES
    for service, scopes in SERVICE_SCOPES.items():
        if service == compreface:
            return "compreface", service, scopes
    raise KeyInvalid(f"{str(compreface)[:40]!r} is not a service; the services are {', '.join(SERVICE_SCOPES)}")


def _scope(word: str) -> Scope:
    for scope in SCOPES:
        if scope == word.strip():
            return scope
    raise KeyInvalid(f"{word[:40]!r} is not a scope; the scopes are {', '.join(SCOPES)}")


def _show_new(key: Key, token: Token, as_json: bool) -> None:
    """Print a key before it is stored, so that no key is stored that nobody has.

    Raises:
        StorageFailed: The output cannot be written.
    """
    lines = [f"key {key.id} ({key.name}); it is not shown again:", token.text]
    secret = {"key": token.text}
    if key.protocol == "rekognition":
        lines = [lines[0], f"aws_access_key_id = {access_key_id(key.id)}", f"aws_secret_access_key = {token.text}"]
        secret = {"secret_access_key": token.text}
    if as_json:
        lines = [json.dumps({**key.described(), **secret})]
    try:
        for line in lines:
            say(line)
        sys.stdout.flush()
    except OSError as error:
        raise StorageFailed(f"the key cannot be printed, so it was not made: {error.strerror}") from error


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {written_time(key.revoked)}"
    if key.expires is None:
        return "live"
    return f"{'live until' if key.is_live(now) else 'expired'} {written_time(key.expires)}"
