"""`vultus encryption`: make a master key, encrypt existing galleries, and change the master key."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from service.audit.records import Event
from service.cli.auditing import audited
from service.cli.output import progress_bars, say
from service.encryption.data_keys import peek as peek_data_keys
from service.encryption.master_key import make_master_key_file
from service.encryption.source import MasterKeySource
from service.errors import MasterKeyMissing, MasterKeyUnfit, NotEncrypted
from service.gallery.encrypting import change_master_key, encrypt_galleries
from service.gallery.encryption import Encryption, encryption_of, require_master_key
from service.gallery.galleries import STORE
from service.gallery.store.encryption_state import StoreState, peek
from service.settings import Settings, load_settings
from service.storage.ownership import owned

app = typer.Typer(
    help="Encrypt the galleries at rest, and change the master key, while no service uses them.",
    no_args_is_help=True,
    add_completion=False,
)

_UNFINISHED = "; free space may still have contents that are not: run vultus encryption enable"


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print whether the galleries are encrypted, and under which master key; beside a service or without one."""
    settings = load_settings()
    encryption_of(settings)
    state = peek(settings.galleries_dir / STORE)
    is_encrypted = state is not None and state.is_encrypted
    keys = peek_data_keys(settings.data_keys_file) if is_encrypted else None
    if as_json:
        unfinished = state is not None and state.encryption == "unfinished"
        master_key = None if keys is None else keys.master_key
        say(json.dumps({"encrypted": is_encrypted, "unfinished": unfinished, "master_key": master_key}))
    elif is_encrypted:
        under = "with missing data keys" if keys is None else f"under the master key {keys.master_key}"
        unfinished = state is not None and state.encryption == "unfinished"
        say(f"the galleries are encrypted {under}" + (_UNFINISHED if unfinished else ""))
    else:
        say("there are no galleries" if state is None else "the galleries are not encrypted")


@app.command()
def new_key(file: Annotated[Path, typer.Argument(help="File to write; it must not exist.", dir_okay=False)]) -> None:
    """Write a new master key to a file that only you can read.

    Keep a copy of it where the galleries and backups are not: without it, nothing of them can be read.
    """
    if file.exists() or file.is_symlink():
        raise MasterKeyUnfit(f"{file} exists; name another file")
    make_master_key_file(file)
    say(f"made {file}; set VULTUS_ENCRYPTION__MASTER_KEY_FILE={file.absolute()} and keep a copy elsewhere")


@app.command()
def enable() -> None:
    """Encrypt the existing galleries under the master key that the settings name.

    The store is then rewritten, which needs free space of twice its size. A new data directory is encrypted from the
    first start on if a master key is set, and does not need this command.
    """
    settings = load_settings()
    store, encryption = settings.galleries_dir / STORE, _configured(settings)
    with _owned_store(settings) as state:
        if state.encryption == "aes-256-gcm":
            require_master_key(encryption, state)
            say("the galleries are encrypted already")
            return
        with audited("vultus encryption enable") as record, progress_bars() as progress:
            done = encrypt_galleries(store, encryption, progress)
            record([Event("encrypt", count=done.templates)])
    if done.templates or done.is_finished:
        say(
            f"encrypted {done.templates:,} templates with all crops and metadata; earlier backups and exports are not "
            "encrypted"
        )
    if not done.is_finished:
        raise NotEncrypted(
            "the galleries are encrypted, but files of the store may still have what was not: another program reads "
            "the store, or the disk has no room for a second copy; mend that, and run vultus encryption enable again"
        )


@app.command()
def rotate(
    new_file: Annotated[
        Path | None, typer.Option(help="File of the new master key; made if it is missing.", dir_okay=False)
    ] = None,
    new_command: Annotated[str | None, typer.Option(help="Command that prints the new master key.")] = None,
    new_environment: Annotated[
        str | None, typer.Option(help="Name of an environment variable with the new master key.")
    ] = None,
) -> None:
    """Wrap all data keys under a new master key; what they encrypt stays as it is.

    Change the setting of the master key afterwards. When the old master key is destroyed, no old copy of the data keys
    can be used.
    """
    settings = load_settings()
    new = _new_source(new_file, new_command, new_environment)
    store, encryption = settings.galleries_dir / STORE, _configured(settings)
    with _owned_store(settings), audited("vultus encryption rotate") as record, progress_bars() as progress:
        keys, master_key, is_finished = change_master_key(store, encryption, new, progress)
        record([Event("rotate_master_key", count=keys)])
    say(
        f"{keys:,} data keys are wrapped under the master key {master_key}; let the settings name it now, make a "
        "backup, and then destroy the old one"
    )
    if not is_finished:
        say("another program reads the data keys; until it ends, its log has them under the old master key too")


def _configured(settings: Settings) -> Encryption:
    encryption = encryption_of(settings)
    if encryption is None:
        raise MasterKeyMissing(
            "no master key is set; make one with vultus encryption new-key FILE, and set "
            "VULTUS_ENCRYPTION__MASTER_KEY_FILE"
        )
    return encryption


@contextmanager
def _owned_store(settings: Settings) -> Iterator[StoreState]:
    """Own the galleries until the block ends, and yield the state of their store.

    Raises:
        NotEncrypted: There are no galleries.
        GalleriesInUse: A service uses them.
    """
    if not settings.galleries_dir.is_dir():
        raise NotEncrypted("there are no galleries yet; they are encrypted from the first start on")
    with owned(settings.galleries_dir):
        state = peek(settings.galleries_dir / STORE)
        if state is None:
            raise NotEncrypted("there are no galleries yet; they are encrypted from the first start on")
        yield state


def _new_source(file: Path | None, command: str | None, environment: str | None) -> MasterKeySource:
    """Return where the new master key comes from.

    Raises:
        MasterKeyUnfit: The environment variable is not set.
    """
    if sum(option is not None for option in (file, command, environment)) != 1:
        raise typer.BadParameter("name one of --new-file, --new-command and --new-environment")
    if environment is not None and environment not in os.environ:
        raise MasterKeyUnfit(f"the environment variable {environment} is not set")
    if environment is None:
        return MasterKeySource(file, None, command)
    return MasterKeySource(text=os.environ[environment], variable=environment)
