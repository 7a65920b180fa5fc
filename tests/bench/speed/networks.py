"""The recognizers that are timed: the usual networks with drawn weights, made once by `vultus export` and kept.

Speed does not depend on what weights say, so nothing has to be downloaded. Only which layers int8 leaves out does: as
in trained networks the branches of the residual blocks add little to what passes by them, or rounding would add up over
the blocks and the exporter would leave out more than the first and the last layer. int8 is calibrated on drawn
pictures; whether its proof passes with drawn weights is of no matter here, so graphs are opened without it.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
from onnx import shape_inference

from models.artefact.card import Card, read_card
from models.backbones import Plan, iresnet, mobilefacenet
from models.synthetic import synthetic_pictures
from tests.checkpoints import save, weights_for

SIDE = 112

_PLANS: dict[str, Callable[[], Plan]] = {
    "r50": lambda: iresnet.plan((3, 4, 14, 3)),
    "r100": lambda: iresnet.plan((3, 13, 30, 3)),
    "mbf": lambda: mobilefacenet.arcface_plan(2, (1, 4, 6, 2)),
}
_CALIBRATION = 96
_BRANCH = 0.12  # of what is drawn for the last batch-norm of a residual branch
_LAST_NORM = re.compile(r"\.bn3\.weight|\.layers\.2\.layers\.1\.weight")  # of a branch, in IResNet and MobileFaceNet


class Network(NamedTuple):
    """A recognizer in all its forms.

    Attributes:
        name: As in the table.
        graphs: File by precision, `int8-cpu` where the exporter thought it worth having.
        insightface: File for insightface's `ArcFaceONNX`; None where there is none.
        flops: Operations of one face, two for each multiplication with addition.
        kept: Layers that stay in higher precision, by precision.
    """

    name: str
    graphs: dict[str, Path]
    insightface: Path | None
    flops: float
    kept: dict[str, int]


def prepare(kept: Path, tell: Callable[[str], None]) -> Iterator[Network]:
    """Give the networks, made if they are not here yet."""
    for name, plan in _PLANS.items():
        directory = kept / name
        if not (directory / "insightface" / "embedder.onnx").exists():
            tell(f"exporting {name} with drawn weights, once; r100 takes some minutes")
            _export(plan(), directory)
        yield network(name, directory / "artefact", directory / "insightface" / "embedder.onnx")


def network(name: str, artefact: Path, insightface: Path | None = None) -> Network:
    """Describe an artefact."""
    kinds = {"fp32": "embedder.onnx", "int8": "embedder.int8.onnx", "int8-cpu": "embedder.int8-cpu.onnx"}
    graphs = {kind: artefact / file for kind, file in kinds.items() if (artefact / file).exists()}
    card = read_card(artefact, Card)
    kept = {kind: len(card.higher_precision[kinds[kind]]) for kind in graphs if kinds[kind] in card.higher_precision}
    return Network(name, graphs, insightface, flops_of(graphs["fp32"]), kept)


def flops_of(graph: Path) -> float:
    """Count the operations of convolutions and matrix products for one picture."""
    model = onnx.load(graph)
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    first.Clear()
    first.dim_value = 1
    inferred = shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    total = 0.0
    for node in inferred.node:
        if node.op_type == "Conv":
            out, weight = shapes[node.output[0]], shapes[node.input[1]]
            total += 2.0 * out[2] * out[3] * weight[0] * weight[1] * weight[2] * weight[3]
        elif node.op_type in ("Gemm", "MatMul"):
            weight = shapes[node.input[1]]
            total += 2.0 * weight[0] * weight[1]
    return total


def _export(plan: Plan, directory: Path) -> None:
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
        ("artefact", ["--precision", "fp32,int8", "--calibration-images", str(faces)]),
        ("insightface", ["--layout", "insightface"]),
    ):
        done = subprocess.run(
            [*vultus, "--out", str(directory / out), *more], capture_output=True, text=True, check=False
        )
        if not (directory / out / "embedder.onnx").exists():
            raise SystemExit(done.stderr[-2000:])
    checkpoint.unlink()
