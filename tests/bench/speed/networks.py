"""The recognizers to time: common networks with random weights, exported once by `vultus export` and then reused.

Speed does not depend on the values of the weights, so that nothing is downloaded. The exception is the choice of layers
that int8 leaves in higher precision. The residual branches are therefore scaled down, because they add little to the
identity in trained networks. Otherwise rounding errors would accumulate over the blocks, and the exporter would leave
more than the first and the last layer in higher precision. int8 is calibrated on synthetic pictures. Its parity proof
may fail with random weights, so the graphs are opened without the proof.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from models.artefact.card import Card, read_card
from models.backbones import Plan, iresnet, mobilefacenet
from models.synthetic import synthetic_pictures
from tests.bench.speed.flops import flops_of
from tests.checkpoints import save, weights_for

SIDE = 112

PLANS: dict[str, Callable[[], Plan]] = {
    "r50": lambda: iresnet.plan((3, 4, 14, 3)),
    "r100": lambda: iresnet.plan((3, 13, 30, 3)),
    "mbf": lambda: mobilefacenet.arcface_plan(2, (1, 4, 6, 2)),
}
_CALIBRATION = 96
_BRANCH = 0.12  # factor on the random weights of the last batch-norm of a residual branch
_LAST_NORM = re.compile(r"\.bn3\.weight|\.layers\.2\.layers\.1\.weight")  # in IResNet and MobileFaceNet


class Network(NamedTuple):
    """A recognizer and its exported graphs.

    Attributes:
        name: Name in the table.
        graphs: File by precision; `int8-cpu` only if the exporter wrote that variant.
        insightface: File for insightface's `ArcFaceONNX`, or None.
        flops: Operations for one face; a multiply-add counts as two.
        kept: Number of layers in higher precision, by precision of the graph.
    """

    name: str
    graphs: dict[str, Path]
    insightface: Path | None
    flops: float
    kept: dict[str, int]


def prepare(kept: Path, tell: Callable[[str], None]) -> Iterator[Network]:
    """Yield the networks, and export those that do not exist yet."""
    for name, plan in PLANS.items():
        directory = kept / name
        if not (directory / "insightface" / "embedder.onnx").exists():
            tell(f"exporting {name} with random weights, only once; r100 takes some minutes")
            export(plan(), directory, "fp32,int8")
        yield network(name, directory / "artefact", directory / "insightface" / "embedder.onnx")


def network(name: str, artefact: Path, insightface: Path | None = None) -> Network:
    """Return the description of an artefact."""
    kinds = {"fp32": "embedder.onnx", "int8": "embedder.int8.onnx", "int8-cpu": "embedder.int8-cpu.onnx"}
    graphs = {kind: artefact / file for kind, file in kinds.items() if (artefact / file).exists()}
    card = read_card(artefact, Card)
    kept = {kind: len(card.higher_precision[kinds[kind]]) for kind in graphs if kinds[kind] in card.higher_precision}
    return Network(name, graphs, insightface, flops_of(graphs["fp32"]), kept)


def export(plan: Plan, directory: Path, precisions: str, insightface: bool = True) -> None:
    """Export a network with random weights in some precisions, and for insightface."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = weights_for(plan)
    weights |= {key: array * np.float32(_BRANCH) for key, array in weights.items() if _LAST_NORM.search(key)}
    checkpoint = save(weights, directory / "drawn.pth")
    faces = directory / "drawn"
    faces.mkdir(exist_ok=True)
    for number, picture in enumerate(synthetic_pictures(_CALIBRATION, SIDE, SIDE)):
        cv2.imwrite(str(faces / f"{number}.png"), picture[..., ::-1])
    vultus = [sys.executable, "-c", "from service.cli.main import main; main()", "export", str(checkpoint), "--force"]
    for out, more in (
        ("artefact", ["--precision", precisions, "--calibration-images", str(faces)]),
        ("insightface", ["--layout", "insightface"]),
    ):
        if out == "insightface" and not insightface:
            continue
        done = subprocess.run(
            [*vultus, "--out", str(directory / out), *more], capture_output=True, text=True, check=False
        )
        if not (directory / out / "embedder.onnx").exists():
            raise SystemExit(done.stderr[-2000:])
    checkpoint.unlink()
