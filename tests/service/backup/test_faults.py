"""Kills at any moment of a backup or a restore: what is complete stays complete, and nothing else counts."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from service.backup.directory import readable
from service.backup.restoring import restore_backup
from service.backup.verification import verify_backups
from service.errors import BackupUnknown, StoreUnfit
from service.gallery.administration import create_gallery
from service.gallery.erasure import erase_subject
from service.gallery.galleries import STORE, UNRESTORED
from service.security.keys.store import KeyRequest, KeyStore
from tests.conftest import ROOT
from tests.service.backup.conftest import contents, enrol, has_bytes_of, name, open_galleries, places_in, remove

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "12"))
_ENROLLED = 400


def command_of(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.service.backup.killed_process", *map(str, arguments)]


def run_and_kill(command: list[str], life_s: float) -> list[str]:
    """Run a process, kill it `life_s` seconds after it is ready, and return the lines that it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(life_s, process.send_signal, [signal.SIGKILL])
        timer.start()
        lines = [line.strip() for line in process.stdout if line.endswith("\n")]
        timer.join()
    return lines


def numbers(lines: list[str], word: str) -> set[int]:
    return {int(line.split()[1]) for line in lines if line.startswith(f"{word} ")}


def test_a_kill_while_backups_are_made_leaves_complete_backups_only(tmp_path: Path) -> None:
    """The process enrols, erases and makes backups; each round, the newest backup is restored with the list."""
    places, backups = places_in(tmp_path), tmp_path / "backups"
    chance = random.Random(1)
    galleries = open_galleries(places)
    create_gallery(galleries, "staff", "flat")
    galleries.close()
    enrolled: set[int] = set()
    erased: set[int] = set()
    for round_number in range(ROUNDS):
        lines = run_and_kill(command_of("backup", tmp_path, 10_000 * (round_number + 1)), chance.uniform(0, 0.6))
        enrolled |= numbers(lines, "enrolled")
        erasing = numbers(lines, "erasing")
        erased |= numbers(lines, "erased")
        done = [line.split()[1] for line in lines if line.startswith("backup ")]
        try:
            assert all(found.faults == [] for found in verify_backups(backups))
        except BackupUnknown:
            assert not done
            continue
        with readable(backups) as directory:
            assert set(done[-1:]) <= set(directory.names())
        again = places_in(tmp_path, "again ")
        restore_backup(backups, again, lists=[path for path in [places.galleries / "erasures.log"] if path.exists()])
        restored = open_galleries(again)
        found = contents(restored)["staff"]
        restored.close()
        assert set(found.values()) <= {2}, "a subject is restored partially"
        assert not {name(number) for number in erased} & set(found), "an erased subject is back"
        if done:
            before = lines[: lines.index("begin")]
            for position, line in enumerate(lines):
                if line == "begin" and f"backup {done[-1]}" in lines[position:]:
                    before = lines[:position]  # of the newest backup that is known to be complete, or earlier ones
            acknowledged = numbers(before, "enrolled") - erased - erasing
            assert {name(number) for number in acknowledged} <= set(found), "an acknowledged subject is lost"
        remove(again)
        live = open_galleries(places)
        assert {name(number) for number in enrolled - erased - erasing} <= set(contents(live)["staff"])
        enrolled -= erasing
        live.close()
    with readable(backups) as directory:
        assert directory.names()
    assert erased


def test_a_kill_while_a_backup_is_restored_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    places, backups = places_in(tmp_path), tmp_path / "backups"
    chance = random.Random(2)
    galleries, keys = open_galleries(places), KeyStore(places.security)
    create_gallery(galleries, "staff", "flat")
    for number in range(_ENROLLED):
        enrol(galleries, number)
    keys.create(KeyRequest("door", ["read"]))
    keys.close()
    galleries.close()
    subprocess.run(command_of("once", tmp_path), check=True, cwd=ROOT, capture_output=True)
    galleries = open_galleries(places)
    for number in range(0, _ENROLLED, 7):
        erase_subject(galleries, "staff", name(number))
    galleries.close()
    shutil.copy(places.galleries / "erasures.log", tmp_path / "kept.log")
    expected = {name(number): 2 for number in range(_ENROLLED) if number % 7}
    began = time.monotonic()
    remove(places)
    subprocess.run(command_of("restore", tmp_path), check=True, cwd=ROOT, capture_output=True)
    whole_s = (time.monotonic() - began) / 2  # half of it is the start of the process
    outcomes: set[str] = set()
    for number in count():
        if number >= ROUNDS and ("cut off" in outcomes or number >= 10 * ROUNDS):
            break
        remove(places)
        longest = min(whole_s, 0.15) * 0.5 ** chance.randrange(6)  # machines differ
        for _ in range(3):  # a restore that was cut off is repeated, and cut off again
            run_and_kill(command_of("restore", tmp_path), chance.uniform(0, longest))
            if (places.galleries / UNRESTORED).exists():
                outcomes.add("cut off")
                with pytest.raises(StoreUnfit, match="cut off"):
                    open_galleries(places)
            elif (places.galleries / STORE).exists():
                outcomes.add("complete")
                break
            else:
                outcomes.add("not begun")
        else:
            restore_backup(backups, places, lists=[tmp_path / "kept.log"])
        assert not has_bytes_of(places.galleries, 399)
        restored, keys = open_galleries(places), KeyStore(places.security)
        assert contents(restored) == {"staff": expected}
        assert [key.name for key in keys.list_all()] == ["door"]
        keys.close()
        restored.close()
    assert "cut off" in outcomes
