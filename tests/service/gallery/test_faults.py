"""Killed at any moment, nothing that was acknowledged is lost and nothing is half there."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from models.errors import VultusError
from service.gallery.administration import create_gallery, list_subjects
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import identify, templates_of
from service.gallery.templates import store_templates
from tests.conftest import ROOT
from tests.service.gallery.conftest import Open, people, template
from tests.service.gallery.mortal import EACH, GALLERY, OPERATIONS, open_galleries, vectors_of

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "12"))
SECONDS = float(os.environ.get("FAULT_SECONDS", "4"))
_LONGEST_LIFE_S = 0.25


@dataclass
class Known:
    """What must be there, what must not, and what may be either, by subject number."""

    there: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    either: set[int] = field(default_factory=set)

    def hear(self, line: str) -> None:
        word, operation, *rest = line.split()
        numbers = set(map(int, rest))
        self.either |= numbers
        if word == "done":
            self.either -= numbers
            self.there = self.there - numbers if operation == "erase" else self.there | numbers
            self.gone = self.gone | numbers if operation == "erase" else self.gone
        elif operation == "erase":
            self.there -= numbers

    def wait_idle(self, found: set[int]) -> None:
        """Hold the store to it, and take over what became of the unfinished."""
        assert self.there <= found, "an acknowledged subject is lost"
        assert not self.gone & found, "an erased subject is back"
        assert found <= self.there | self.either, "somebody is there who was never begun"
        self.there |= self.either & found
        self.gone |= self.either - found
        self.either = set()


def live_and_die(directory: Path, operation: str, first: int, life_s: float, known: Known) -> None:
    """Run a process, kill it, and note what it said."""
    command = [sys.executable, "-m", "tests.service.gallery.mortal", str(directory), operation, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(life_s, process.send_signal, [signal.SIGKILL])
        timer.start()
        for line in process.stdout:
            if line.endswith("\n"):  # not one that was cut off
                known.hear(line)
        timer.join()
    assert process.returncode == -signal.SIGKILL


def test_killed_at_any_moment_nothing_is_lost_or_half_there(tmp_path: Path) -> None:
    directory, known, chance = tmp_path / "galleries", Known(), random.Random(1)
    galleries = open_galleries(directory)
    create_gallery(galleries, GALLERY, "hnsw")
    galleries.close()
    for number in range(ROUNDS):
        operation = list(OPERATIONS)[number % len(OPERATIONS)]
        live_and_die(directory, operation, 100_000 * (number + 1), chance.uniform(0, _LONGEST_LIFE_S), known)
        galleries = open_galleries(directory)
        try:
            before = set(known.gone)
            subjects = {int(one.name): one.template_count for one in list_subjects(galleries, GALLERY, "", -1)}
            known.wait_idle(set(subjects))
            assert set(subjects.values()) <= {EACH}, "a subject is half there"
            for subject in chance.sample(sorted(subjects), min(20, len(subjects))):
                np.testing.assert_array_equal(
                    templates_of(galleries, GALLERY, str(subject)).vectors, vectors_of(subject)
                )
            assert check_consistency(galleries, GALLERY).faults == []
            if number % 8 == 7 or number == ROUNDS - 1:
                assert check_erasure(galleries).faults == []
                for path in directory.iterdir():
                    content = path.read_bytes()
                    assert not any(own.tobytes() in content for one in before for own in vectors_of(one))
        finally:
            galleries.close()
    assert known.there
    assert known.gone


def test_many_at_once_lose_nothing_and_meet_nobody_who_was_erased(reopen: Open) -> None:
    """32 threads store_templates, erase and identify in two galleries."""
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
        own = people(1, 2, number)[0]
        store_templates(galleries, name, [(subject, template(vector)) for vector in own])
        enrolled[name][subject] = own

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
        before, there = set(erased[name]), dict(enrolled[name])
        if not there:
            return
        subject = chance.choice(list(there))
        (found,) = identify(galleries, [name], there[subject][:1], 5)
        if {one.gallery for one in found} - {name}:
            faults.append("a result of another gallery")
        if {one.subject for one in found} & before:
            faults.append("a result from an erased subject")
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
        assert {one.name for one in list_subjects(galleries, name, "", -1)} == set(enrolled[name])
        assert erased[name]
        assert check_consistency(galleries, name).faults == []
    assert check_erasure(galleries).faults == []


def test_a_kill_leaves_the_lock_free(tmp_path: Path) -> None:
    directory = tmp_path / "galleries"
    galleries = open_galleries(directory)
    create_gallery(galleries, GALLERY, "flat")
    galleries.close()
    live_and_die(directory, "enrol", 1, 0.05, Known())
    reopened: Galleries = open_galleries(directory)
    reopened.close()
