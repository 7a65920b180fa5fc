"""A process that changes galleries until it is killed, and says line by line what it begins and what was acknowledged.

    python -m tests.service.gallery.mortal DIRECTORY OPERATION FIRST

Subjects are numbered from FIRST; a subject's vectors follow from its number. It says `begin OPERATION NUMBERS` before
and `done OPERATION NUMBERS` after each change.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.gallery.administration import list_subjects, read_gallery
from service.gallery.erasure import erase_subject
from service.gallery.exchange import import_lines
from service.gallery.galleries import Galleries
from service.gallery.index.live import IndexLimits
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, template, unit

GALLERY = "staff"
EACH = 3
LIMITS = IndexLimits(flat_most=10_000, learned_least=60)


def vectors_of(number: int) -> NDArray[np.float32]:
    return unit(np.random.default_rng(number).standard_normal((EACH, DIMENSIONS)))


def open_galleries(directory: Path) -> Galleries:
    return Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS)


def say(word: str, operation: str, numbers: Sequence[int]) -> None:
    print(word, operation, *numbers, flush=True)


def enrol_for_ever(galleries: Galleries, first: int) -> None:
    for number in range(first, first + 100_000):
        say("begin", "enrol", [number])
        store_templates(galleries, GALLERY, [(str(number), template(own, 2.0)) for own in vectors_of(number)])
        say("done", "enrol", [number])


def erase_for_ever(galleries: Galleries, first: int) -> None:
    """Erase whom there is, and enrol others in their place."""
    there = [int(subject.name) for subject in list_subjects(galleries, GALLERY, "", -1)]
    np.random.default_rng(first).shuffle(there)
    for number, new in zip(there, range(first, first + 100_000), strict=False):
        say("begin", "erase", [number])
        erase_subject(galleries, GALLERY, str(number))
        say("done", "erase", [number])
        say("begin", "enrol", [new])
        store_templates(galleries, GALLERY, [(str(new), template(own, 2.0)) for own in vectors_of(new)])
        say("done", "enrol", [new])
    enrol_for_ever(galleries, first + len(there))  # nobody of before is left; the end has yet to come


def import_for_ever(galleries: Galleries, first: int) -> None:
    import json

    for start in range(first, first + 100_000, 20):
        numbers = range(start, start + 20)

        def lines(numbers: Sequence[int] = numbers) -> Iterator[bytes]:
            for number in numbers:
                for own in vectors_of(number):
                    entry = {"subject": str(number), "contract_id": CONTRACT, "embedding": own.tolist(), "norm": 2.0}
                    yield json.dumps(entry).encode()

        say("begin", "import", numbers)
        for _ in import_lines(galleries, GALLERY, lines()):
            pass
        say("done", "import", numbers)


def snapshot_for_ever(galleries: Galleries, first: int) -> None:
    """Build the graph and write it, again and again, while templates come."""
    live = galleries.live(read_gallery(galleries, GALLERY)[0])
    for number in range(first, first + 100_000):
        task = galleries.rebuild(live, anew=True)
        say("begin", "enrol", [number])
        store_templates(galleries, GALLERY, [(str(number), template(own, 2.0)) for own in vectors_of(number)])
        say("done", "enrol", [number])
        task.result()
        live.remove_snapshot()


OPERATIONS = {
    "enrol": enrol_for_ever,
    "erase": erase_for_ever,
    "import": import_for_ever,
    "snapshot": snapshot_for_ever,
}

if __name__ == "__main__":
    opened = open_galleries(Path(sys.argv[1]))
    print("ready", flush=True)
    OPERATIONS[sys.argv[2]](opened, int(sys.argv[3]))
