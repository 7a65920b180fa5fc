"""`make bench-accuracy`: accuracy on LFW View 2 in every precision of the model's parity proof, and changed decisions.

Decisions on the 6,000 pairs are compared with those in float32. The threshold has an FMR of 1e-3 in float32, over all
non-mated pairs of the same photos.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.errors import ArtefactUnfit, EngineMissing, PrecisionUnsupported
from models.evaluation.acquire.pictures import Picture
from models.evaluation.metrics.verification import distances_of, ten_fold_accuracy
from models.evaluation.model import EvaluatedModel
from models.evaluation.protocols.lfw_view2 import POLICY
from models.evaluation.sets.lfw import Pair, photos, read_pairs
from models.runtime.session import Precision
from service.cli.measuring import evaluated_model

RATE = 1e-3
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

Floats = NDArray[np.float32]


def main() -> None:
    """Measure every precision and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-accuracy")
    parser.add_argument("--lfw", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    console = Console(width=110)
    pairs = read_pairs(arguments.lfw / "pairs.txt")
    table = Table(
        "precision",
        "engine",
        "View 2 accuracy",
        "points from fp32",
        f"changed decisions of {len(pairs)} at FMR {RATE:g}",
    )
    reference: tuple[float, Floats, float] | None = None
    for precision in PRECISIONS:
        try:
            with evaluated_model(arguments.model, None, precision, 10, no_cache=False) as model:
                similarity, threshold = _similarities(model, arguments.lfw, pairs)
                engine = model.models.embedder_session.engine
        except (ArtefactUnfit, EngineMissing, PrecisionUnsupported) as error:
            console.print(f"{precision}: {error}", highlight=False)
            continue
        mated, acquired = np.array([pair.mated for pair in pairs]), np.isfinite(similarity)
        accuracy = ten_fold_accuracy(distances_of(similarity), mated, acquired).mean
        reference = reference or (accuracy, similarity, threshold)
        flips = (similarity >= reference[2]) != (reference[1] >= reference[2])
        table.add_row(
            precision,
            engine,
            f"{accuracy:.2%}",
            f"{(accuracy - reference[0]) * 100:+.2f}",
            f"{flips.sum()} ({(flips & mated).sum()} mated)",
        )
    console.print(table)


def _similarities(model: EvaluatedModel, lfw: Path, pairs: list[Pair]) -> tuple[Floats, float]:
    """Return the similarity of each pair, NaN without a face, and the threshold at `RATE` over all non-mated pairs."""
    names = photos(pairs)
    faces = model.embed(model.photos(POLICY), [Picture(name, lfw / "images" / name) for name in names], "LFW View 2")
    positions = {name: number for number, name in enumerate(names)}
    first, second = (np.array([positions[getattr(pair, side)] for pair in pairs]) for side in ("first", "second"))
    similarity = np.einsum("ij,ij->i", faces.embedding[first], faces.embedding[second])
    similarity[~(faces.found[first] & faces.found[second])] = np.nan
    owners = np.unique([name.partition("/")[0] for name in names], return_inverse=True)[1][faces.found]
    embedding = faces.embedding[faces.found]
    rows, columns = np.triu_indices(len(embedding), 1)
    others = (embedding @ embedding.T)[rows, columns][owners[rows] != owners[columns]]
    return similarity, float(np.quantile(others, 1 - RATE))


if __name__ == "__main__":
    main()
