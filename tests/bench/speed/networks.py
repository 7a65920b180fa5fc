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
    for name, plan in _PLANS.items():
        directory = kept / name
        if not (directory / "insightface" / "embedder.onnx").exists():
            tell(f"exporting {name} with random weights, only once; r100 takes some minutes")
            _export(plan(), directory)
        yield network(name, directory / "artefact", directory / "insightface" / "embedder.onnx")


def network(name: str, artefact: Path, insightface: Path | None = None) -> Network:
    """Return the description of an artefact."""
    kinds = {"fp32": "embedder.onnx", "int8": "embedder.int8.onnx", "int8-cpu": "embedder.int8-cpu.onnx"}
    graphs = {kind: artefact / file for kind, file in kinds.items() if (artefact / file).exists()}
    card = read_card(artefact, Card)
    kept = {kind: len(card.higher_precision[kinds[kind]]) for kind in graphs if kinds[kind] in card.higher_precision}
    return Network(name, graphs, insightface, flops_of(graphs["fp32"]), kept)


def flops_of(graph: Path) -> float:
    """Count the operations of convolutions and matrix products for one face."""
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
