"""`make bench-openset`: 1:N identification over HTTP on all of LFW, compared with a numpy search.

The first photo of each of the 1,680 subjects with two or more photos is enrolled. Their other 7,484 photos are the
mated probes. The photos of the other 4,069 subjects are the non-mated probes. The numpy search uses the same embeddings
as the service. The central face of each photo is used, because LFW is labelled that way.
"""

import argparse
import base64
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from service.settings import load_settings
from tests.service.test_end_to_end import client_of, serving

BATCH = 16
RANKS = 5
FPIR = 1e-2
CLIENTS = 2

_out = Console()


class Answer(NamedTuple):
    """The candidates that the service returns for a photo, and its embedding; None if the photo has no face."""

    subjects: list[str]
    similarities: list[float]
    embedding: NDArray[np.float32] | None


def people(lfw: Path) -> tuple[dict[str, Path], list[tuple[str, Path]], list[Path]]:
    """Split LFW into photos to enrol by subject, mated probes by subject, and non-mated probes."""
    enrolled: dict[str, Path] = {}
    mated: list[tuple[str, Path]] = []
    others: list[Path] = []
    for folder in sorted((lfw / "images").iterdir()):
        first, *rest = sorted(folder.glob("*.jpg"))
        if rest:
            enrolled[folder.name] = first
            mated += [(folder.name, path) for path in rest]
        else:
            others.append(first)
    return enrolled, mated, others


def batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]


def ask(client: httpx2.Client, paths: Sequence[Path]) -> list[Answer]:
    """Embed and identify the same photos in equal batches, so that both requests use the same embeddings."""
    files = [("images", path.read_bytes()) for path in paths]
    embedded = client.post("/v1/embed", files=files, data={"faces": "central"}).raise_for_status().json()["items"]
    options = {"faces": "central", "gallery": "lfw", "k": str(RANKS), "operating_point": "none"}
    found = client.post("/v1/identify", files=files, data=options).raise_for_status().json()["items"]
    answers = []
    for embedding_item, candidate_item in zip(embedded, found, strict=True):
        if embedding_item["status"] == "error":
            answers.append(Answer([], [], None))
            continue
        candidates = candidate_item["faces"][0]["candidates"]
        answers.append(
            Answer(
                [candidate["subject"] for candidate in candidates],
                [candidate["similarity"] for candidate in candidates],
                np.array(embedding_item["faces"][0]["embedding"], np.float32),
            )
        )
    return answers


def ask_all(client: httpx2.Client, paths: Sequence[Path], label: str) -> list[Answer]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        groups = pool.map(lambda batch: ask(client, batch), list(batches(paths)))
        count = -(-len(paths) // BATCH)
        return [answer for group in track(groups, label, total=count, transient=True) for answer in group]


def exported(client: httpx2.Client) -> tuple[list[str], NDArray[np.float32]]:
    lines: list[dict[str, Any]] = [*map(json.loads, client.get("/v1/galleries/lfw/export").text.splitlines())]
    templates = [line for line in lines if "embedding" in line]
    vectors = [np.frombuffer(base64.b64decode(line["embedding"]), "<f4") for line in templates]
    return [line["subject"] for line in templates], np.stack(vectors)


def equal_lists(answers: Sequence[Answer], subjects: Sequence[str], vectors: NDArray[np.float32]) -> tuple[int, int]:
    """Count the rank lists that equal those of a numpy search, and all rank lists."""
    names = np.array(subjects)
    equal = total = 0
    for answer in answers:
        if answer.embedding is not None:
            order = np.argsort(-(vectors @ answer.embedding), kind="stable")[:RANKS]
            equal += names[order].tolist() == answer.subjects
            total += 1
    return equal, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lfw", type=Path, required=True)
    options = parser.parse_args()
    enrolled, mated, others = people(options.lfw)
    counts = f"{len(enrolled):,} subjects, {len(mated):,} mated probes, {len(others):,} non-mated probes"
    _out.print(counts, highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "packs").symlink_to(load_settings().packs_dir.resolve())
        with serving({**os.environ, "VULTUS_DATA_DIR": scratch}) as server, client_of(server) as client:
            client.post("/v1/galleries", json={"gallery": "lfw"}).raise_for_status()
            begun = time.perf_counter()
            for subject, path in track(list(enrolled.items()), "enrolling", transient=True):
                address = f"/v1/galleries/lfw/subjects/{subject}/templates"
                client.post(address, files={"images": path.read_bytes()}, data={"faces": "central"})
            subjects, vectors = exported(client)
            _out.print(f"enrolled {len(subjects):,} subjects in {time.perf_counter() - begun:.0f} s", highlight=False)
            begun = time.perf_counter()
            of_mated = ask_all(client, [path for _, path in mated], "mated probes")
            of_others = ask_all(client, others, "non-mated probes")
            spent = time.perf_counter() - begun
    report(mated, of_mated, of_others, equal_lists([*of_mated, *of_others], subjects, vectors), spent)


def report(
    mated: Sequence[tuple[str, Path]],
    of_mated: Sequence[Answer],
    of_others: Sequence[Answer],
    lists: tuple[int, int],
    spent: float,
) -> None:
    first = np.array([answer.similarities[0] if answer.similarities else -1.0 for answer in of_mated])
    right = np.array([answer.subjects[:1] == [subject] for (subject, _), answer in zip(mated, of_mated, strict=True)])
    non_mated = np.sort([answer.similarities[0] if answer.similarities else -1.0 for answer in of_others])
    alarms = int(FPIR * len(non_mated))
    threshold = float(np.nextafter(non_mated[-alarms - 1], 2))  # at most `alarms` non-mated probes reach it
    missed = 1 - float((right & (first >= threshold)).mean())
    faceless = sum(answer.embedding is None for answer in [*of_mated, *of_others])
    for line in (
        f"rank-1 identification rate {right.mean():.2%} of {len(right):,} mated probes",
        f"FNIR at FPIR {FPIR:g}: {missed:.2%}, at similarity {threshold:.3f}",
        f"rank lists of {RANKS} equal to those of the numpy search: {lists[0]:,} of {lists[1]:,}",
        f"photos without a face: {faceless}; time to embed and identify all photos: {spent:.0f} s",
    ):
        _out.print(line, highlight=False)


if __name__ == "__main__":
    main()
