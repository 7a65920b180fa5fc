"""Kills and concurrency: no acknowledged change is lost and no change is applied partially."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from models.errors import VultusError
from service.gallery.administration import create_gallery, list_subjects
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erased_keys import ErasedKeys
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import identify, templates_of
from service.gallery.templates import store_templates
from tests.conftest import ROOT
from tests.service.gallery.conftest import Open, encryption_in, people, template
from tests.service.gallery.killed_process import EACH, ENCRYPTED, GALLERY, OPERATIONS, open_galleries, vectors_of

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "12"))
SECONDS = float(os.environ.get("FAULT_SECONDS", "4"))
_MAX_LIFE_S = 0.25


@dataclass
class Known:
    """The subject numbers that must be stored, must be erased, or may be either.

    A subject may be either if an operation on it began and was not acknowledged.
    """

    stored: set[int] = field(default_factory=set)
    erased: set[int] = field(default_factory=set)
    either: set[int] = field(default_factory=set)

    def record(self, line: str) -> None:
        """Record a line that the process printed."""
        word, operation, *rest = line.split()
        numbers = set(map(int, rest))
        self.either |= numbers
        if word == "done":
            self.either -= numbers
            self.stored = self.stored - numbers if operation == "erase" else self.stored | numbers
            self.erased = self.erased | numbers if operation == "erase" else self.erased
        elif operation == "erase":
            self.stored -= numbers

    def check(self, found: set[int]) -> None:
        """Check the subjects found in the store, and record the outcome of unacknowledged operations."""
        assert self.stored <= found, "an acknowledged subject is lost"
        assert not self.erased & found, "an erased subject is back"
        assert found <= self.stored | self.either, "a subject is stored that was never enrolled"
        self.stored |= self.either & found
        self.erased |= self.either - found
        self.either = set()


def run_and_kill(directory: Path, operation: str, first: int, life_s: float, known: Known) -> None:
    """Run a process, kill it after `life_s` seconds, and record the lines that it printed."""
    command = [sys.executable, "-m", "tests.service.gallery.killed_process", str(directory), operation, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(life_s, process.send_signal, [signal.SIGKILL])
        timer.start()
        for line in process.stdout:
            if line.endswith("\n"):  # ignore a truncated last line
                known.record(line)
        timer.join()
    assert process.returncode == -signal.SIGKILL


def undestroyed_data_keys(galleries: Galleries) -> set[int]:
    """Return the keys of erased subjects whose data keys are not destroyed."""
    with galleries.database.reading() as connection:
        erased = {
            key
            for (keys,) in connection.execute("SELECT keys FROM erasures")
            for key in ErasedKeys.from_json(keys).subjects
        }
    with closing(sqlite3.connect(encryption_in(galleries.directory.parent).data_keys)) as data_keys:
        stored = {
            key for (key,) in data_keys.execute("SELECT key FROM data_keys WHERE kind = 'subject' AND wrapped != x''")
        }
    return erased & stored


@pytest.mark.parametrize("mode", ["plain", ENCRYPTED])
def test_a_kill_at_any_moment_loses_nothing_and_applies_nothing_partially(tmp_path: Path, mode: str) -> None:
    directory, known, chance = tmp_path / mode / "galleries", Known(), random.Random(1)
    galleries = open_galleries(directory)
    create_gallery(galleries, GALLERY, "hnsw")
    galleries.close()
    for number in range(ROUNDS):
        operation = list(OPERATIONS)[number % len(OPERATIONS)]
        run_and_kill(directory, operation, 100_000 * (number + 1), chance.uniform(0, _MAX_LIFE_S), known)
        galleries = open_galleries(directory)
        try:
            before = set(known.erased)
            found = list_subjects(galleries, GALLERY, "", -1)
            subjects = {int(subject.name): subject.template_count for subject in found}
            known.check(set(subjects))
            assert set(subjects.values()) <= {EACH}, "a subject is stored partially"
            for number_found in chance.sample(sorted(subjects), min(20, len(subjects))):
                np.testing.assert_array_equal(
                    templates_of(galleries, GALLERY, str(number_found)).vectors, vectors_of(number_found)
                )
            assert check_consistency(galleries, GALLERY).faults == []
            assert mode != ENCRYPTED or not undestroyed_data_keys(galleries)
            if number % 8 == 7 or number == ROUNDS - 1:
                assert check_erasure(galleries).faults == []
                for path in directory.iterdir():
                    content = path.read_bytes()
                    assert not any(vector.tobytes() in content for erased in before for vector in vectors_of(erased))
        finally:
            galleries.close()
    assert known.stored
    assert known.erased


def test_concurrent_operations_lose_nothing_and_find_no_erased_subject(reopen: Open) -> None:
    """Runs 32 threads that enrol, erase and identify in two galleries."""
    galleries = reopen()
    names = ("left", "right")
    for name in names:
        create_gallery(galleries, name, "hnsw" if name == "left" else "auto")
    enrolled: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    erased: dict[str, set[str]] = {name: set() for name in names}
    faults: list[str] = []
    deadline = time.monotonic() + SECONDS
    numbers = iter(range(10**9))
    guard = threading.Lock()

    def enrol_one(chance: random.Random) -> None:
        with guard:
            number = next(numbers)
        name, subject = chance.choice(names), f"s{number}"
        vectors = people(1, 2, number)[0]
        store_templates(galleries, name, [(subject, template(vector)) for vector in vectors])
        enrolled[name][subject] = vectors

    def erase_one(chance: random.Random) -> None:
        name = chance.choice(names)
        with guard:
            if not enrolled[name]:
                return
            subject = chance.choice(list(enrolled[name]))
            del enrolled[name][subject]
        erase_subject(galleries, name, subject)
        erased[name].add(subject)

    def identify_one(chance: random.Random) -> None:
        name = chance.choice(names)
        before, present = set(erased[name]), dict(enrolled[name])
        if not present:
            return
        subject = chance.choice(list(present))
        (found,) = identify(galleries, [name], present[subject][:1], 5)
        if {candidate.gallery for candidate in found} - {name}:
            faults.append("a candidate of another gallery")
        if {candidate.subject for candidate in found} & before:
            faults.append("an erased subject as a candidate")
        if subject in enrolled[name] and (not found or found[0].subject != subject):
            faults.append(f"{subject} is enrolled and was not found")

    def work(seed: int, act: Callable[[random.Random], None]) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < deadline:
                act(chance)
        except VultusError as error:
            faults.append(f"{error.code}: {error}")

    acts = [enrol_one] * 12 + [erase_one] * 8 + [identify_one] * 12
    threads = [threading.Thread(target=work, args=(seed, act)) for seed, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[:5]
    for name in names:
        assert {subject.name for subject in list_subjects(galleries, name, "", -1)} == set(enrolled[name])
        assert erased[name]
        assert check_consistency(galleries, name).faults == []
    assert check_erasure(galleries).faults == []


def test_a_kill_releases_the_lock(tmp_path: Path) -> None:
    directory = tmp_path / "galleries"
    galleries = open_galleries(directory)
    create_gallery(galleries, GALLERY, "flat")
    galleries.close()
    run_and_kill(directory, "enrol", 1, 0.05, Known())
    reopened: Galleries = open_galleries(directory)
    reopened.close()
