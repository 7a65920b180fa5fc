"""A process that changes galleries until it is killed, and prints each change before and after it.

    python -m tests.service.gallery.killed_process DIRECTORY OPERATION FIRST

Subjects are numbered from FIRST; the number seeds a subject's vectors. The process prints `register OPERATION NUMBERS`
before each change and `done OPERATION NUMBERS` after the change was acknowledged.
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
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, encryption_in, template, unit

GALLERY = "staff"
EACH = 3
LIMITS = IndexLimits(max_flat_templates=10_000, min_learned_templates=60)


def vectors_of(number: int) -> NDArray[np.float32]:
    return unit(np.random.default_rng(number).standard_normal((EACH, DIMENSIONS)))


ENCRYPTED = "encrypted"


def open_galleries(directory: Path) -> Galleries:
    """Open the galleries of a directory; those below a directory `encrypted` are encrypted."""
    encryption = encryption_in(directory.parent) if directory.parent.name == ENCRYPTED else None
    return Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS, encryption=encryption)


def report(word: str, operation: str, numbers: Sequence[int]) -> None:
    print(word, operation, *numbers, flush=True)


def enrol_for_ever(galleries: Galleries, first: int) -> None:
    for number in range(first, first + 100_000):
        report("register", "enrol", [number])
        store_templates(galleries, GALLERY, [(str(number), template(vector, 2.0)) for vector in vectors_of(number)])
        report("done", "enrol", [number])


def erase_for_ever(galleries: Galleries, first: int) -> None:
    """Erase each stored subject and enrol a new one after it, then only enrol."""
    stored = [int(subject.name) for subject in list_subjects(galleries, GALLERY, "", -1)]
    np.random.default_rng(first).shuffle(stored)
    for number, new in zip(stored, range(first, first + 100_000), strict=False):
        report("register", "erase", [number])
        erase_subject(galleries, GALLERY, str(number))
        report("done", "erase", [number])
        report("register", "enrol", [new])
        store_templates(galleries, GALLERY, [(str(new), template(vector, 2.0)) for vector in vectors_of(new)])
        report("done", "enrol", [new])
    enrol_for_ever(galleries, first + len(stored))  # the process runs until it is killed


def import_for_ever(galleries: Galleries, first: int) -> None:
    import json

    for start in range(first, first + 100_000, 20):
        numbers = range(start, start + 20)

        def lines(numbers: Sequence[int] = numbers) -> Iterator[bytes]:
            for number in numbers:
                for vector in vectors_of(number):
                    embedding = vector.tolist()
                    entry = {"subject": str(number), "contract_id": CONTRACT, "embedding": embedding, "norm": 2.0}
                    yield json.dumps(entry).encode()

        report("register", "import", numbers)
        for _ in import_lines(galleries, GALLERY, lines()):
            pass
        report("done", "import", numbers)


def snapshot_for_ever(galleries: Galleries, first: int) -> None:
    """Rebuild the graph and write its snapshot repeatedly while enrolling."""
    live = galleries.live(read_gallery(galleries, GALLERY)[0])
    for number in range(first, first + 100_000):
        task = galleries.rebuild(live, ignore_snapshot=True)
        report("register", "enrol", [number])
        store_templates(galleries, GALLERY, [(str(number), template(vector, 2.0)) for vector in vectors_of(number)])
        report("done", "enrol", [number])
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
