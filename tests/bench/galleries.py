"""`make bench-gallery`: a large gallery of synthetic people, compared with raw FAISS on the same vectors in one run.

Templates of the same person have a cosine of 0.5 to 0.7, those of different people of about 0, as with real
recognizers. Each kind of index is opened in a separate process, so that its memory can be measured.
"""

import argparse
import base64
import json
import multiprocessing
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import numpy as np
import uvicorn
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.runtime import usable_cores
from service.allocator import limit_retained_memory
from service.app import create_app
from service.gallery.administration import change_gallery, create_gallery, list_subjects, read_gallery
from service.gallery.erasure import erase_subject
from service.gallery.exchange import import_lines
from service.gallery.galleries import Galleries
from service.gallery.identification import identify
from service.gallery.index.faiss_vectors import new_vectors
from service.gallery.index.graph import EFFORT
from service.gallery.index.scan import read_blocks, scan
from service.gallery.records import IndexKind
from service.http_protocol import HttpProtocol
from service.settings import Settings
from tests.conftest import models_without_weights
from tests.service.test_end_to_end import free_port

NAME = "people"
EACH = 5
PROBES = 64
KINDS: tuple[IndexKind, ...] = ("flat-fp16", "sq8", "hnsw")
ROUNDS = 15
BLOCK = 8192

_out = Console()


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    normal: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return normal


def person(block: int, rows: int, dimensions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw `EACH` templates and one probe of each person in a block."""
    random = np.random.default_rng(block)
    centres = unit(random.standard_normal((rows // EACH, 1, dimensions), np.float32))
    others = unit(random.standard_normal((rows // EACH, EACH + 1, dimensions), np.float32))
    share = np.sqrt(random.uniform(0.5, 0.7, (rows // EACH, EACH + 1, 1)))
    faces = unit(share * centres + np.sqrt(1 - share**2) * others)
    return faces[:, :EACH], faces[:, EACH]


def lines(templates: int, dimensions: int, contract_id: str) -> Iterator[bytes]:
    for block, start in enumerate(range(0, templates, BLOCK // EACH * EACH)):
        faces, _ = person(block, min(BLOCK // EACH * EACH, templates - start), dimensions)
        for number, vectors in enumerate(faces):
            for vector in vectors:
                packed = base64.b64encode(vector.tobytes()).decode()
                subject = f"{start // EACH + number:07}"
                yield (
                    f'{{"subject":"{subject}","contract_id":"{contract_id}","norm":10,"embedding":"{packed}"}}\n'
                ).encode()


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def milliseconds(*works: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return the median duration of each callable over interleaved runs."""
    spent: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, durations in zip(works, spent, strict=True):
            begun = time.perf_counter()
            work()
            durations.append((time.perf_counter() - begun) * 1000)
    return [median(durations) for durations in spent]


def measure(directory: Path, kind: IndexKind, dimensions: int, sender: Any) -> None:
    """Open the gallery with one kind of index and measure it, or rebuild its index if it has another kind."""
    limit_retained_memory(usable_cores())  # as `vultus serve` does
    models = models_without_weights(dimensions)
    empty_mb = resident_mb()
    begun = time.perf_counter()
    galleries = Galleries(directory, models.contract_id, dimensions)
    galleries.wait_idle()
    found: dict[str, Any] = {"kind": kind, "start_s": time.perf_counter() - begun}
    if read_gallery(galleries, NAME)[0].index != kind:
        begun = time.perf_counter()
        change_gallery(galleries, NAME, index=kind)
        galleries.wait_idle()
        found["build_s"] = time.perf_counter() - begun
        galleries.close()
        sender.send(found)
        return
    live = galleries.live(read_gallery(galleries, NAME)[0])
    assert live.current is not None
    assert live.current.kind == kind
    found |= {"resident_mb": resident_mb(), "empty_mb": empty_mb, "templates": live.current.count}
    _, probes = person(0, BLOCK // EACH * EACH, dimensions)
    probes = probes[:: len(probes) // PROBES][:PROBES]
    found |= _agreement(galleries, probes)
    raw = _raw(galleries, kind, dimensions)
    single_probe = probes[:1]
    with _serving(models, galleries) as ask:
        single, raw_single, http_single = milliseconds(
            lambda: identify(galleries, [NAME], single_probe, 5, floor=0.3),
            lambda: raw.search(single_probe, 5),
            lambda: ask(single_probe),
        )
        batch, raw_batch, http_batch = milliseconds(
            lambda: identify(galleries, [NAME], probes, 5, floor=0.3),
            lambda: raw.search(probes, 5),
            lambda: ask(probes),
            rounds=5,
        )
    found |= {"single_ms": single, "raw_single_ms": raw_single, "http_single_ms": http_single}
    found |= {"batch_ms": batch / PROBES, "raw_batch_ms": raw_batch / PROBES, "http_batch_ms": http_batch / PROBES}
    erased = [subject.name for subject in list_subjects(galleries, NAME, "0001000", 9)]
    names = iter(erased)
    (found["erase_ms"],) = milliseconds(lambda: erase_subject(galleries, NAME, next(names)), rounds=len(erased))
    galleries.close()
    sender.send(found)


def _agreement(galleries: Galleries, probes: NDArray[np.float32]) -> dict[str, float]:
    """Return how often the rank-1 subject is that of the exact float32 search, which reads the store."""
    _, others = person(1, BLOCK // EACH * EACH, probes.shape[1])
    all_probes = np.concatenate([probes, others])
    gallery = read_gallery(galleries, NAME)[0]
    exact = scan(galleries.database, gallery, all_probes, 1).subject_keys[:, 0]
    agreed = [
        candidates[0].key == subject
        for start in range(0, len(all_probes), PROBES)
        for candidates, subject in zip(
            identify(galleries, [NAME], all_probes[start : start + PROBES], 1),
            exact[start : start + PROBES],
            strict=True,
        )
    ]
    return {"agreement": float(np.mean(agreed)), "agreed_of": len(agreed)}


def _raw(galleries: Galleries, kind: IndexKind, dimensions: int) -> Any:
    """Return one FAISS index of the same vectors, built as in FAISS's tutorial, or the gallery's graph for hnsw."""
    gallery = read_gallery(galleries, NAME)[0]
    blocks = read_blocks(galleries.database, gallery)
    if kind == "hnsw":
        graph = galleries.live(gallery).current.graph  # type: ignore[union-attr]  # building a second one takes too long
        graph.hnsw.efSearch = EFFORT
        return graph
    first = next(blocks)
    raw = new_vectors(kind, dimensions, first.vectors)  # type: ignore[arg-type]
    raw.add(first.vectors)
    for block in blocks:
        raw.add(block.vectors)
    return raw


class _serving:
    """Serve the real application on a real socket; the context is a function that identifies embeddings over HTTP."""

    def __init__(self, models: Any, galleries: Galleries) -> None:
        self.port = free_port()
        app = create_app(models, galleries, Settings())
        config = uvicorn.Config(app, http=HttpProtocol, port=self.port, log_level="error", access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Callable[[NDArray[np.float32]], Any]:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)

        def ask(probes: NDArray[np.float32]) -> Any:
            packed = [base64.b64encode(probe.tobytes()).decode() for probe in probes]
            body = {"gallery": NAME, "embeddings": packed, "k": 5}
            return self.client.post("/v1/identify", json=body).raise_for_status()

        return ask

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()


def in_process(directory: Path, kind: IndexKind, dimensions: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(directory, kind, dimensions, sender))
    process.start()
    sender.close()
    try:
        answer: dict[str, Any] = receiver.recv()
        return answer
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--directory", type=Path, help="directory of the gallery; reused if it exists, and not deleted")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.directory or Path(scratch) / "galleries"
        figures: list[dict[str, Any]] = []
        if not directory.exists():
            figures.append(fill(directory, options.templates, options.dimensions))
        for kind in filter(None, options.kinds.split(",")):
            figures.append(in_process(directory, kind, options.dimensions))  # rebuilds an index of another kind
            if "build_s" in figures[-1]:
                _out.print(f"built the {kind} index in {figures.pop()['build_s']:.1f} s")
                figures.append(in_process(directory, kind, options.dimensions))
            _out.print(figures[-1])
        show([figure for figure in figures if "resident_mb" in figure])
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))


def fill(directory: Path, templates: int, dimensions: int) -> dict[str, Any]:
    models = models_without_weights(dimensions)
    galleries = Galleries(directory, models.contract_id, dimensions)
    create_gallery(galleries, NAME, "flat-fp16")
    block = list(lines(BLOCK, dimensions, models.contract_id))
    begun = time.perf_counter()
    drawn = 0.0

    def timed() -> Iterator[bytes]:
        nonlocal drawn
        source = lines(templates, dimensions, models.contract_id)
        while True:
            before = time.perf_counter()
            chunk = [line for _, line in zip(range(len(block)), source, strict=False)]
            drawn += time.perf_counter() - before
            if not chunk:
                return
            yield from chunk

    for _ in import_lines(galleries, NAME, timed()):
        pass
    spent = time.perf_counter() - begun - drawn
    galleries.wait_idle()
    galleries.close()
    _out.print(
        f"imported {templates:,} lines in {spent:.1f} s, without the time to generate them: "
        f"{templates / spent:,.0f} per second"
    )
    return {"import_per_s": templates / spent}


def show(figures: list[dict[str, Any]]) -> None:
    table = Table(
        "index", "start (s)", "memory (MB)", "1 probe (ms)", "64 probes (ms each)", "rank-1 agreement", "erase (ms)",
        caption="probes: Vultus / raw FAISS / Vultus over HTTP; memory: in total, before opening the gallery",
    )  # fmt: skip
    for figure in figures:
        table.add_row(
            figure["kind"],
            f"{figure['start_s']:.1f}",
            f"{figure['resident_mb']:.0f}, {figure['empty_mb']:.0f}",
            " / ".join(f"{figure[name]:.2f}" for name in ("single_ms", "raw_single_ms", "http_single_ms")),
            " / ".join(f"{figure[name]:.2f}" for name in ("batch_ms", "raw_batch_ms", "http_batch_ms")),
            f"{figure['agreement']:.4f} of {figure['agreed_of']:,}",
            f"{figure['erase_ms']:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
