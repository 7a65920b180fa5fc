"""`vultus backup` beside a running service or without one, and `vultus restore` into empty directories."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.audit.records import Event
from service.backup.directory import readable
from service.backup.places import places_of
from service.backup.restoring import restore_backup
from service.backup.verification import verify_backups
from service.backup.writing import MadeBackup, make_backup
from service.cli.auditing import audited
from service.cli.output import err, out, progress_bars, say
from service.errors import BackupUnconfigured
from service.settings import Settings, load_settings
from service.times import written_time

_FAULTY = 1  # exit status

Name = Annotated[str | None, typer.Option("--backup", help="Name of a backup, as listed by `vultus backup --list`.")]


def backup(
    directory: Annotated[
        Path | None, typer.Argument(help="Directory of backups; default: VULTUS_BACKUP__DIRECTORY.", file_okay=False)
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove all but the newest backups; default: VULTUS_BACKUP__KEEP.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the backups instead of making one.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and check all backups, or --backup, instead of making one.")
    ] = False,
    name: Name = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Back up the galleries, keys and audit log, beside a service or without one.

    Only what has changed since the last backup in the directory is written. A backup is as secret as the service.
    """
    settings = load_settings()
    path = directory or settings.backup.directory
    if path is None:
        raise BackupUnconfigured("name a directory of backups, or set VULTUS_BACKUP__DIRECTORY")
    if list_all:
        _list(path, as_json)
    elif verify or name is not None:
        _verify(path, name)
    else:
        _make(settings, path, keep, as_json)


def restore(
    directory: Annotated[Path, typer.Argument(help="Directory of backups.", file_okay=False)],
    name: Name = None,
    erasures: Annotated[
        list[Path] | None,
        typer.Option(
            help="A newer list of erasures, such as erasures.log of the old galleries; repeatable. That of the backups "
            "is always applied."
        ),
    ] = None,
    keys: Annotated[bool, typer.Option(help="Whether to restore the keys and the audit log too.")] = True,
) -> None:
    """Restore a backup into a data directory without galleries and keys.

    The newest backup is restored, unless another one is named. What was erased since then is not restored.
    """
    settings = load_settings()
    with progress_bars("bytes") as progress:
        restored = restore_backup(directory, places_of(settings), name, erasures or (), keys, progress)
    manifest = restored.manifest
    say(
        f"restored {manifest.name}: {manifest.galleries - restored.galleries:,} galleries, "
        f"{manifest.subjects - restored.subjects:,} subjects, {manifest.templates - restored.templates:,} templates"
    )
    say(
        f"erased since the backup and not restored: {restored.galleries:,} galleries, {restored.subjects:,} subjects, "
        f"{restored.templates:,} templates ({restored.erasures:,} erasures are listed)"
    )
    if restored.with_keys:
        say("the keys are those of the backup: revoke again what was revoked since")


def _make(settings: Settings, path: Path, keep: int | None, as_json: bool) -> None:
    with audited("vultus backup") as record, progress_bars() as progress:
        made = make_backup(places_of(settings), path, keep or settings.backup.keep, progress)
        record([Event("backup", count=made.manifest.templates)])
    if as_json:
        out.print_json(json.dumps(made.described()))
        return
    manifest = made.manifest
    say(
        f"{manifest.name}: {manifest.galleries:,} galleries, {manifest.subjects:,} subjects, "
        f"{manifest.templates:,} templates, {_mib(manifest.size)}, of which {_mib(made.new_bytes)} are new; "
        f"the galleries were read for {made.read_s:.1f} s"
    )
    if made.removed:
        say(f"removed: {', '.join(made.removed)}")
    _warn(made)


def _warn(made: MadeBackup) -> None:
    if made.unreadable:
        err.print(
            f"the manifests of {', '.join(made.unreadable)} cannot be read; remove these files: until then, what "
            "removed backups had stays on the disk",
            highlight=False,
            soft_wrap=True,
        )


def _list(path: Path, as_json: bool) -> None:
    with readable(path) as directory:
        manifests, unreadable = directory.manifests()
    if as_json:
        out.print_json(json.dumps([manifest.described() for manifest in manifests]))
    else:
        table = Table("backup", "galleries", "subjects", "templates", "size", "made")
        for column in table.columns:
            column.overflow = "fold"
        for each in manifests:
            counts = (f"{each.galleries:,}", f"{each.subjects:,}", f"{each.templates:,}")
            table.add_row(each.name, *counts, _mib(each.size), written_time(each.created))
        out.print(table)
    if unreadable:
        err.print(f"the manifests of {', '.join(unreadable)} cannot be read", highlight=False, soft_wrap=True)
        raise typer.Exit(_FAULTY)


def _verify(path: Path, name: str | None) -> None:
    with progress_bars() as progress:
        verified = verify_backups(path, name, progress)
    for each in verified:
        say(f"{each.name}: {each.faults[0] if each.faults else 'intact'}" + _others(len(each.faults)))
    if any(each.faults for each in verified):
        raise typer.Exit(_FAULTY)


def _others(faults: int) -> str:
    return f" (and {faults - 1:,} other faults)" if faults > 1 else ""


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
