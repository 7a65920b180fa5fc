"""LFW View 2, end to end from photos, and the calibration that follows from it.

    python -m models.evaluation.lfw_view2 --lfw DIR --packs DIR --out calibration.json

G. B. Huang, M. Ramesh, T. Berg, E. Learned-Miller, "Labeled Faces in the Wild", TR 07-49, University of Massachusetts,
2007; deep funneling: G. B. Huang, M. Mattar, H. Lee, E. Learned-Miller, NIPS 2012. View 2 is 10 folds of 300 mated and
300 non-mated pairs. The photos were cropped around the person whose name they bear, hence the policy `central`. LFW is
easy: faces of celebrities in press photos. Thresholds measured on it say little about other data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models.assembly import Models, load_models
from models.calibration import Calibration, operating_point, write_calibration
from models.cropping import FacePolicy, StageTimes
from models.errors import NoFace, VultusError
from models.evaluation.verification import FoldAccuracy, ten_fold_accuracy
from models.packs import PackStore, find_manifest
from models.pipeline import Pipeline

RATES = (1e-2, 1e-3)  # 3,000 non-mated pairs carry no rate below 1e-3
DEFAULT_POINT = "fmr_1e-3"
POLICY: FacePolicy = "central"


class Pair(NamedTuple):
    """Two photos by path, relative to the image directory."""

    first: str
    second: str
    mated: bool


@dataclass(frozen=True, slots=True, eq=False)
class View2:
    """What was measured.

    Attributes:
        mated, non_mated: Similarities.
        accuracy: 10-fold.
        failures: Photos in which no face was found; their pairs count as similarity -1.
        policy: Which face of a photo was meant.
    """

    mated: NDArray[np.float32]
    non_mated: NDArray[np.float32]
    accuracy: FoldAccuracy
    failures: list[str]
    policy: FacePolicy


def read_pairs(path: Path) -> list[Pair]:
    """Read `pairs.txt`: a header line, then `name i j` for mated and `name i name j` for non-mated pairs."""
    pairs = []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            pairs.append(Pair(_photo(words[0], words[1]), _photo(words[0], words[2]), mated=True))
        elif len(words) == 4:
            pairs.append(Pair(_photo(words[0], words[1]), _photo(words[2], words[3]), mated=False))
    return pairs


def measure(pipeline: Pipeline, lfw: Path, policy: FacePolicy = POLICY, names: Iterable[str] | None = None) -> View2:
    """Run the protocol.

    Args:
        pipeline: What serves.
        lfw: Directory with `pairs.txt` and `images/`.
        policy: Which face of a photo is meant; must not be `all`.
        names: The photos of the pairs in an order of the caller's, such as one that shows progress.
    """
    pairs = read_pairs(lfw / "pairs.txt")
    embeddings, failures = {}, []
    for name in names or photos(pairs):
        (outcome,) = pipeline.embed([(lfw / "images" / name).read_bytes()], policy, StageTimes())
        if isinstance(outcome, NoFace):
            failures.append(name)
        elif isinstance(outcome, VultusError):
            raise outcome
        else:
            embeddings[name] = outcome.faces[0].embedding
    similarity = np.array(
        [
            embeddings[pair.first] @ embeddings[pair.second] if {pair.first, pair.second} <= embeddings.keys() else -1.0
            for pair in pairs
        ],
        dtype=np.float32,
    )
    mated = np.array([pair.mated for pair in pairs])
    return View2(similarity[mated], similarity[~mated], ten_fold_accuracy(similarity, mated), failures, policy)


def photos(pairs: list[Pair]) -> list[str]:
    """List every photo of the pairs once."""
    return sorted({name for pair in pairs for name in (pair.first, pair.second)})


def calibrate(models: Models, view2: View2) -> Calibration:
    """Make the calibration that follows from a measurement."""
    measured_on = f"LFW View 2, {len(view2.non_mated):,} non-mated and {len(view2.mated):,} mated pairs"
    conditions: dict[str, Any] = {
        "detector": models.detector.family,
        "engine": models.embedder_session.engine,
        "precision": models.embedder_session.precision,
        "face_policy": view2.policy,
        "photos_without_a_face": len(view2.failures),
        "ten_fold_accuracy": view2.accuracy.mean,
    }
    points = tuple(operating_point(view2.non_mated, view2.mated, rate, measured_on) for rate in RATES)
    return Calibration(models.contract_id, DEFAULT_POINT, points, conditions)


def _photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


def main(
    lfw: Annotated[Path, typer.Option(help="Directory with pairs.txt and images/.")],
    packs: Annotated[Path, typer.Option(help="Directory of fetched packs.")],
    pack: Annotated[str, typer.Option(help="Name of the pack.")] = "opencv-zoo",
    policy: Annotated[
        FacePolicy, typer.Option(help="Which face of a photo is meant; `central` is what LFW means.")
    ] = POLICY,
    out: Annotated[Path | None, typer.Option(help="Where to write the calibration.")] = None,
) -> None:
    """Measure a pack on LFW View 2, print the operating points and write them as a calibration."""
    console = Console()
    manifest = find_manifest(pack)
    models = load_models(PackStore(packs), manifest)
    names = photos(read_pairs(lfw / "pairs.txt"))
    view2 = measure(models.pipeline, lfw, policy, track(names, "LFW View 2", console=console))
    calibration = calibrate(models, view2)
    console.print(
        f"10-fold accuracy {view2.accuracy.mean:.4%} ± {view2.accuracy.deviation:.4%}, "
        f"{len(view2.failures)} of {len(names)} photos without a face"
    )
    for point in calibration.points:
        low, high = point.interval
        console.print(
            f"{point.name}: threshold {point.threshold:.4f}, FMR {point.rate:g} [{low:.2g}, {high:.2g}], "
            f"FNMR {point.fnmr:.4f}"
        )
    if out is not None:
        write_calibration(out, calibration)
        console.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
