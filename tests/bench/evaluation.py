"""`make bench-evaluate`: time and memory of evaluations, compared with straightforward implementations in one run.

Each line is measured in a separate process. The straightforward implementation of all pairs sorts the full similarity
matrix. That of IJB is the official code: in batches of 100,000 pairs, it fetches both templates, multiplies and sums.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.evaluation.acquire.embedding_cache import CachedFace
from models.evaluation.acquire.embedding_run import Group
from models.evaluation.acquire.pictures import Picture
from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.operating_points import RATES
from models.evaluation.model import EvaluatedModel
from models.evaluation.protocols.ijb import evaluate_ijb_11
from models.evaluation.protocols.lfw_view2 import evaluate_lfw_view2
from models.evaluation.sets.ijb import read_template_pairs
from models.packs import PackStore, find_manifest
from models.quality import FaceGeometry
from models.serving.load import load_models
from models.types import Progress, no_progress
from service.settings import load_settings

IMAGES, TEMPLATES, PAIRS = 469_375, 19_593, 15_658_489  # of IJB-C
MATED = 19_557  # mated pairs of IJB-C
PICTURES, SUBJECTS = 13_233, 5_749  # of LFW

_NOWHERE = FaceGeometry(float("nan"), float("nan"), float("nan"))
_OFFICIAL_BATCH = 100_000
_out = Console()


def lfw_view2(lfw: Path, cache: Path) -> dict[str, Any]:
    settings = load_settings()
    model = EvaluatedModel(load_models(PackStore(settings.packs_dir), find_manifest(settings.pack)), cache)
    begun = time.perf_counter()
    evaluation = evaluate_lfw_view2(model, lfw)
    accuracy = next(figure for figure in evaluation.figures if figure.name == "accuracy")
    return {"seconds": time.perf_counter() - begun, "note": accuracy.text}


def pictures(dimensions: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw embeddings and subjects with the counts of LFW: most subjects have one image, some have many."""
    rng = np.random.default_rng(0)
    subjects = np.concatenate([np.arange(SUBJECTS), rng.geometric(0.002, PICTURES - SUBJECTS) % SUBJECTS])
    centres = rng.standard_normal((SUBJECTS, dimensions), np.float32)
    embedding = centres[subjects] + 0.8 * rng.standard_normal((PICTURES, dimensions), np.float32)
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True), subjects.astype(np.int64)


def all_pairs(dimensions: int) -> dict[str, Any]:
    embedding, subjects = pictures(dimensions)
    begun = time.perf_counter()
    compared = compare_all(embedding, subjects).non_mated
    return {"seconds": time.perf_counter() - begun, "thresholds": [compared.threshold(rate) for rate in RATES]}


def plain_all_pairs(dimensions: int) -> dict[str, Any]:
    embedding, subjects = pictures(dimensions)
    begun = time.perf_counter()
    matrix = embedding @ embedding.T
    other = np.triu(subjects[:, None] != subjects[None], 1)
    scores = np.sort(matrix[other])
    thresholds = [float(scores[-int(rate * len(scores))]) for rate in RATES]
    return {"seconds": time.perf_counter() - begun, "thresholds": thresholds}


class Simulated(EvaluatedModel):
    """A model that returns random embeddings in groups instead of running inference."""

    def __init__(self, model: EvaluatedModel, dimensions: int) -> None:
        super().__init__(model.models, max_missing=IMAGES)
        self._dimensions = dimensions

    @contextmanager
    def run(self, *_: Any, **__: Any) -> Any:
        yield self

    def groups(self, images: Sequence[Picture], step: str = "", progress: Progress = no_progress) -> Iterator[Group]:
        del step, progress
        rng = np.random.default_rng(1)
        for start in range(0, len(images), 4096):
            count = min(4096, len(images) - start)
            drawn = rng.standard_normal((count, 2, self._dimensions), np.float32)
            norms = np.linalg.norm(drawn, axis=2)
            drawn /= norms[:, :, None]
            faces = [CachedFace(drawn[n], norms[n], _NOWHERE) for n in range(count)]
            yield Group(start, [*faces], [None] * count, 0)


def write_ijbc(directory: Path) -> None:
    rng = np.random.default_rng(2)
    meta = directory / "meta"
    meta.mkdir(parents=True)
    owners = np.sort(np.concatenate([np.arange(TEMPLATES), rng.integers(0, TEMPLATES, IMAGES - TEMPLATES)]))
    media = rng.integers(0, 12, IMAGES)
    names = [f"{number}.jpg" for number in range(1, IMAGES + 1)]
    (meta / "ijbc_face_tid_mid.txt").write_text(
        "".join(f"{name} {owner} {medium}\n" for name, owner, medium in zip(names, owners, media, strict=True))
    )
    points = "38.29 51.69 73.53 51.50 56.02 71.73 41.54 92.36 70.72 92.20 0.9"
    (meta / "ijbc_name_5pts_score.txt").write_text("".join(f"{name} {points}\n" for name in names))
    pairs = np.stack([rng.integers(0, TEMPLATES, PAIRS), rng.integers(0, TEMPLATES, PAIRS)], axis=1)
    with (meta / "ijbc_template_pair_label.txt").open("w") as file:
        for start in range(0, PAIRS, 1 << 20):
            part = pairs[start : start + (1 << 20)].tolist()
            file.writelines(f"{first} {second} {int(start + n < MATED)}\n" for n, (first, second) in enumerate(part))


def ijbc(directory: Path, dimensions: int) -> dict[str, Any]:
    settings = load_settings()
    model = EvaluatedModel(load_models(PackStore(settings.packs_dir), find_manifest(settings.pack)))
    begun = time.perf_counter()
    evaluate_ijb_11(Simulated(model, dimensions), directory, "ijbc", "insightface")
    return {"seconds": time.perf_counter() - begun, "note": "with lists, templates, scores, ROC and charts"}


def official_scores(directory: Path, dimensions: int) -> dict[str, Any]:
    """Measure only the scoring of the pairs, implemented as in the official code."""
    pairs = read_template_pairs(directory, "ijbc")
    vectors = np.random.default_rng(3).standard_normal((TEMPLATES, dimensions), np.float32)
    begun = time.perf_counter()
    scores = np.zeros(len(pairs.first), np.float32)
    for start in range(0, len(scores), _OFFICIAL_BATCH):
        part = slice(start, start + _OFFICIAL_BATCH)
        scores[part] = (vectors[pairs.first[part]] * vectors[pairs.second[part]]).sum(-1)
    return {"seconds": time.perf_counter() - begun, "note": "scoring only"}


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "view2": lambda place, cache: lfw_view2(Path(place), Path(cache)),
    "pairs": lambda dimensions: all_pairs(int(dimensions)),
    "plain": lambda dimensions: plain_all_pairs(int(dimensions)),
    "ijbc": lambda place: ijbc(Path(place), 512),
    "official": lambda place: official_scores(Path(place), 512),
}


def measured(*arguments: str) -> dict[str, Any]:
    """Run one of the measurements in a separate process."""
    command = [sys.executable, "-m", "tests.bench.evaluation", "--work", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lfw", type=Path)
    parser.add_argument("--work", nargs="+")
    options = parser.parse_args()
    if options.work:
        name, *arguments = options.work
        measurement = WORK[name](*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**measurement, "peak_mb": peak}))
        return
    table = Table("measurement", "seconds", "peak MB", "target", "note")
    with tempfile.TemporaryDirectory() as scratch:
        cache = str(Path(scratch) / "cache")

        def line(label: str, target: str, *arguments: str) -> dict[str, Any]:
            _out.print(label, highlight=False)
            found = measured(*arguments)
            table.add_row(label, f"{found['seconds']:.1f}", f"{found['peak_mb']:,.0f}", target, found.get("note", ""))
            return found

        line("LFW View 2 from photos", "240 s", "view2", str(options.lfw), cache)
        line("LFW View 2, embeddings cached", "", "view2", str(options.lfw), cache)
        for dimensions in ("128", "512"):
            vultus = line(f"all pairs, 13,233 x {dimensions}", "60 s, 2 GB", "pairs", dimensions)
            plain = line(f"full matrix, sorted, 13,233 x {dimensions}", "", "plain", dimensions)
            close = np.allclose(vultus["thresholds"], plain["thresholds"], atol=1e-6)
            table.add_row("", "", "", "", "thresholds at FMR 1e-2 to 1e-6 " + ("agree" if close else "DIFFER"))
        place = Path(scratch) / "IJBC"
        _out.print("writing lists of the size of IJB-C", highlight=False)
        write_ijbc(place)
        line("IJB-C 1:1, simulated, 512 dimensions", "180 s, 6 GB", "ijbc", str(place))
        line("IJB-C pairs, scored as in the official code", "", "official", str(place))
        shutil.rmtree(place)
    _out.print(table)


if __name__ == "__main__":
    main()
