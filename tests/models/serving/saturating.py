"""A recognizer whose 8-bit products saturate without VNNI, and what is served of it; run as a process of its own.

oneDNN reads `ONEDNN_MAX_CPU_ISA` once, when it is loaded. Prints a line of JSON for 8-bit and for 7-bit weights: the
mean cosine of int8 on OpenVINO with float32, and the error of loading it where another processor proved it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.artefact.card import Card
from models.artefact.parity import compare
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit
from models.export.precision.int8 import Quantizer
from models.graph import Preprocessing, recognizer_graph, save_checked
from models.graph.quantize import WeightBits, layers
from models.runtime import RuntimeOptions, open_session
from models.serving.recognizer import open_recognizer
from models.synthetic import synthetic_pictures
from models.types import Embeddings

SIDE = 16
GRAPHS = {"fp32": "embedder.onnx", "int8": "embedder.int8.onnx"}


def network() -> onnx.ModelProto:
    """Return a network with weights of equal magnitude: two products of the same sign exceed 16 bits."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(32, 3, 3, 3)),
        "w2": rng.choice([-1.0, 1.0], (32, 32, 3, 3)) / 17,
        "w3": rng.normal(size=(16, 32 * SIDE * SIDE)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return recognizer_graph(model, Preprocessing("rgb", 127.5, 127.5))


def make_artefact(directory: Path, weight_bits: WeightBits) -> Card:
    """Write the float32 and the int8 graph, and return a card for them."""
    model = network()
    save_checked(model, directory / GRAPHS["fp32"])
    faces = synthetic_pictures(24, SIDE, SIDE, seed=1)
    inner = set(list(layers(model))[1:-1])
    save_checked(Quantizer(model, faces, weight_bits).quantized(inner, signed=True), directory / GRAPHS["int8"])
    files = dict.fromkeys(GRAPHS.values(), f"{weight_bits}")
    return Card("small", "f", "a", "l", "0" * 64, 1, SIDE, SIDE, 16, "t", {}, files, graphs=GRAPHS)


def proof_on(isa: str | None, *kinds: str, engine: str = "openvino") -> dict[str, Any]:
    """Return a proof that was measured on an instruction set; None for a proof that does not state it."""
    row = {"engine": engine, "passed": True, **({} if isa is None else {"isa": isa})}
    return {"passed": True, "measured": [{"precision": kind, **row} for kind in kinds]}


def embed(directory: Path, kind: str, options: RuntimeOptions) -> Embeddings:
    """Embed synthetic pictures."""
    session = open_session(directory / GRAPHS[kind], EMBEDDER_OUTPUTS, ((SIDE, SIDE),), options)
    return Embeddings(*session.run(synthetic_pictures(16, SIDE, SIDE)))


def measure(directory: Path, weight_bits: WeightBits) -> dict[str, Any]:
    """Return the mean cosine of int8 with float32, and the error of loading int8 that was proven elsewhere, or None."""
    card = make_artefact(directory, weight_bits)
    reference = embed(directory, "fp32", RuntimeOptions("onnxruntime", precision="fp32"))
    wanted = RuntimeOptions("openvino", precision="int8")
    cosine = compare(reference.raw, embed(directory, "int8", wanted)).mean_cosine
    try:
        open_recognizer(directory, card, proof_on("elsewhere", "fp32", "int8"), wanted, None)
    except ArtefactUnfit as error:
        return {"cosine": cosine, "error": str(error)}
    return {"cosine": cosine, "error": None}


if __name__ == "__main__":
    scratch = Path(sys.argv[1])
    print(json.dumps([measure(scratch, bits) for bits in (8, 7)]))
