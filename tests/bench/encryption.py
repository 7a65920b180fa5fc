"""`make bench-encryption`: what encryption at rest costs, compared with the same gallery without it in one run.

Each gallery is opened in a process of its own, so that its memory can be measured; single operations run in turn.
"""

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models.runtime import usable_cores
from service.allocator import limit_retained_memory
from service.encryption.data_keys import DATA_KEYS
from service.encryption.master_key import make_master_key_file
from service.encryption.source import MasterKeySource
from service.gallery.administration import create_gallery, list_subjects
from service.gallery.encrypting import change_master_key, encrypt_galleries
from service.gallery.encryption import Encryption
from service.gallery.erasure import erase_subject
from service.gallery.exchange import import_lines
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import identify
from service.gallery.records import NewTemplate
from service.gallery.templates import store_templates
from tests.bench.galleries import BLOCK, EACH, NAME, lines, person, resident_mb, unit

_CONTRACT = "ec1-bench"
_ROUNDS = 50
_out = Console(width=120)


def open_galleries(root: Path, dimensions: int, encrypted: bool) -> Galleries:
    return Galleries(root / "galleries", _CONTRACT, dimensions, encryption=encryption_in(root) if encrypted else None)


def encryption_in(root: Path) -> Encryption:
    return Encryption(root / "encryption" / DATA_KEYS, MasterKeySource(file=root / "master.key"))


def fill(root: Path, templates: int, dimensions: int, encrypted: bool) -> float:
    """Import templates, and return how many a second."""
    galleries = open_galleries(root, dimensions, encrypted)
    create_gallery(galleries, NAME, "flat-fp16")
    source = lines(templates, dimensions, _CONTRACT)
    spent = 0.0
    while chunk := list(itertools.islice(source, BLOCK)):
        begun = time.perf_counter()
        for _ in import_lines(galleries, NAME, chunk):
            pass
        spent += time.perf_counter() - begun
    galleries.close()
    return templates / spent


def start(root: Path, dimensions: int, encrypted: bool, sender: Any) -> None:
    """Open the galleries and wait for their index; report seconds and memory."""
    limit_retained_memory(usable_cores())  # as `vultus serve` does
    begun = time.perf_counter()
    galleries = open_galleries(root, dimensions, encrypted)
    opened_s = time.perf_counter() - begun
    galleries.wait_idle()
    ready_s = time.perf_counter() - begun
    sender.send((opened_s, ready_s, resident_mb()))
    galleries.close()


def in_process(*arguments: Any) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=start, args=(*arguments, sender))
    process.start()
    sender.close()
    found: tuple[float, float, float] = receiver.recv()
    process.join()
    return found


def in_turn(works: list[Callable[[int], object]]) -> list[float]:
    """Return the median milliseconds of each work, which gets the number of its round."""
    spent: list[list[float]] = [[] for _ in works]
    for number in range(_ROUNDS):
        for work, durations in zip(works, spent, strict=True):
            begun = time.perf_counter()
            work(number)
            durations.append((time.perf_counter() - begun) * 1000)
    return [median(durations) for durations in spent]


def single_operations(roots: list[Path], dimensions: int) -> dict[str, list[float]]:
    """Measure single operations on the open galleries, in turn."""
    opened = [open_galleries(root, dimensions, encrypted) for root, encrypted in zip(roots, (False, True), strict=True)]
    for galleries in opened:
        galleries.wait_idle()
    new = unit(np.random.default_rng(9).standard_normal((_ROUNDS, dimensions), np.float32))
    _, probes = person(0, BLOCK // EACH * EACH, dimensions)
    names = [subject.name for subject in list_subjects(opened[0], NAME, "0001000", _ROUNDS)]

    def of_each(work: Callable[[Galleries, int], object]) -> list[float]:
        return in_turn([lambda number, galleries=galleries: work(galleries, number) for galleries in opened])  # type: ignore[misc]

    def enrol(subject: str) -> Callable[[Galleries, int], object]:
        def one(galleries: Galleries, number: int) -> object:
            template = NewTemplate(new[number], f"{subject} {number}".encode().ljust(32))
            return store_templates(galleries, NAME, [(subject.format(number), template)])

        return one

    figures = {
        "enrol a template of a new subject, ms": of_each(enrol("new {}")),
        "enrol a template of a known subject, ms": of_each(enrol("known")),
        "identify one probe, ms": of_each(lambda galleries, n: identify(galleries, [NAME], probes[n : n + 1], 5)),
        "erase a subject, ms": of_each(lambda galleries, n: erase_subject(galleries, NAME, names[n])),
    }
    for galleries in opened:
        galleries.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-encryption")
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    options = parser.parse_args()
    table = Table(
        "what", "not encrypted", "encrypted", "ratio", title=f"{options.templates:,} templates, {EACH} a subject"
    )
    with tempfile.TemporaryDirectory() as scratch:
        roots = [Path(scratch) / "plain", Path(scratch) / "encrypted"]
        make_master_key_file(roots[1] / "master.key")
        modes = list(zip(roots, (False, True), strict=True))
        rows = {
            "import, templates a second": [fill(root, options.templates, options.dimensions, on) for root, on in modes]
        }
        starts = [[in_process(root, options.dimensions, on) for root, on in modes] for _ in range(3)]
        for position, what in enumerate(("open, s", "open and build the index, s", "resident, MB")):
            rows[what] = [median(each[mode][position] for each in starts) for mode in (0, 1)]
        rows |= single_operations(roots, options.dimensions)
        for what, (plain, encrypted) in rows.items():
            table.add_row(what, f"{plain:,.2f}", f"{encrypted:,.2f}", f"{encrypted / plain:.2f}")
        begun = time.perf_counter()
        new = MasterKeySource(file=roots[1] / "second.key")
        keys = change_master_key(roots[1] / "galleries" / STORE, encryption_in(roots[1]), new).keys
        table.add_row(f"rotate the master key of {keys:,} data keys, s", "", f"{time.perf_counter() - begun:.1f}", "")
        make_master_key_file(roots[0] / "master.key")
        begun = time.perf_counter()
        encrypt_galleries(roots[0] / "galleries" / STORE, encryption_in(roots[0]))
        table.add_row("encrypt the gallery that was not, s", "", f"{time.perf_counter() - begun:.1f}", "")
    _out.print(table)


if __name__ == "__main__":
    main()
