"""Choose how to run a recognizer, within its parity proof."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from models.artefact.card import Card
from models.artefact.parity import GraphKind
from models.artefact.proof import proven
from models.errors import ArtefactUnfit
from models.runtime import Precision, RuntimeOptions, SessionDescription, engines_for
from models.runtime.loading import TENSORRT_ENGINES


class ProvenRuntime(NamedTuple):
    """A way to run a recognizer that the proof of its artefact covers.

    Attributes:
        graph: File name of the graph.
        options: Options to run it with. With the precision `auto`, the proof covers bf16 and fp32.
        isa: Instruction set on which the proof was measured; None if the proof does not state it.
    """

    graph: str
    options: RuntimeOptions
    isa: str | None


def proven_runtimes(card: Card, proof: dict[str, Any], wanted: RuntimeOptions) -> list[ProvenRuntime]:
    """List the engines, graphs and precisions that are within the settings and passed the proof, best first.

    On a CPU the precision `auto` selects bfloat16 if the engine and the processor support it and the proof covers it,
    then float32. On a GPU it selects float16 if that passed, then float32. A proof measured with ONNX Runtime on a CPU
    also covers ONNX Runtime on CUDA and TensorRT, and float32 covers TF32, because all of them are compared with
    float32 on the CPU when they are loaded, see `models.serving.comparison`.

    Args:
        card: Card of the artefact.
        proof: Content of its `parity.json`.
        wanted: Requested engine, device and precision.

    Raises:
        ArtefactUnfit: The proof does not cover the requested engine and precision, or the measurement did not pass.
        EngineMissing: The requested engine does not support the device.
    """
    passed = proven(proof)
    if wanted.engine in TENSORRT_ENGINES:
        of_onnxruntime = {kind: isa for (kind, engine), isa in passed.items() if engine == "onnxruntime"}
        passed |= {(kind, wanted.engine): isa for kind, isa in of_onnxruntime.items() if kind != "int8-cpu"}
    engines = engines_for(wanted)
    found = []
    for engine in engines:
        rows = {kind: isa for (kind, proven_engine), isa in passed.items() if proven_engine == engine}
        for kind, precision in _kinds(wanted, rows):
            graph = card.graphs.get("fp32" if kind in ("tf32", "bf16") else kind)
            if graph is not None:
                isa = rows["fp32" if kind == "tf32" else kind]
                found.append(ProvenRuntime(graph, replace(wanted, engine=engine, precision=precision), isa))
    if found:
        return found
    available = ", ".join(f"{kind} on {engine}" for kind, engine in sorted(passed)) or "none"
    precision = "fp32" if wanted.precision == "auto" else wanted.precision
    raise ArtefactUnfit(
        f"{card.name} was not proven in {precision} on {' or '.join(engines)} and is therefore not served; "
        f"proven: {available}"
    )


def row_of(card: Card, graph: str, session: SessionDescription) -> tuple[str, str]:
    """Return precision and engine of the row of a proof that allows a session.

    Args:
        card: Card of the artefact.
        graph: File name of the graph.
        session: The actual configuration. TensorRT and TF32 are allowed by rows of ONNX Runtime and float32.
    """
    engine = "onnxruntime" if session.engine in TENSORRT_ENGINES else session.engine
    if session.precision == "bf16":
        return "bf16", engine
    if session.precision in ("fp32", "tf32"):
        return "fp32", engine
    return next(kind for kind, name in card.graphs.items() if name == graph), engine


def _kinds(wanted: RuntimeOptions, passed: Collection[GraphKind]) -> list[tuple[GraphKind, Literal["auto", Precision]]]:
    """Return the rows of the proof that allow the requested precision on an engine, each with the precision to open."""
    kinds: list[tuple[GraphKind, Literal["auto", Precision]]]
    if wanted.precision != "auto":
        kinds = [(wanted.precision, wanted.precision)]
        if wanted.precision == "int8" and wanted.device == "cpu":
            kinds = [("int8-cpu", "int8"), *kinds]
    elif wanted.device != "cpu":
        kinds = [("fp16", "fp16"), ("fp32", "fp32")]
    else:  # opened with `auto`, because this processor may lack bfloat16
        kinds = [("bf16", "auto"), ("fp32", "fp32")] if "fp32" in passed else []
    return [(kind, precision) for kind, precision in kinds if ("fp32" if kind == "tf32" else kind) in passed]
