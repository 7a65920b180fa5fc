"""Choose how to run a recognizer, within its parity proof; TensorRT is checked for parity when it is loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.artefact.card import Card
from models.artefact.parity import compare
from models.artefact.proof import proven
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit, EngineMissing
from models.runtime import RuntimeOptions, Session, engines_for, open_session
from models.runtime.gpu import engine_file, find_gpu, load_tensorrt
from models.runtime.loading import TENSORRT_ENGINES
from models.synthetic import synthetic_pictures
from models.types import Embeddings

_FACES = 16  # synthetic crops of the parity check at loading


def proven_runtime(card: Card, proof: dict[str, Any], wanted: RuntimeOptions) -> tuple[str, RuntimeOptions]:
    """Choose graph file, engine and precision among those that passed the artefact's parity proof.

    The precision `auto` selects bfloat16 if the engine and the processor support it and the proof covers it, else
    float32. A proof measured with ONNX Runtime on a CPU also covers ONNX Runtime on CUDA. TensorRT runs the graphs
    proven with ONNX Runtime, by default in float16 if that passed. `require_parity` compares a TensorRT session with
    ONNX Runtime when it is loaded.

    Args:
        card: Card of the artefact.
        proof: Content of its `parity.json`.
        wanted: Requested engine, device and precision.

    Returns:
        File name of the graph, and the options to run it with.

    Raises:
        ArtefactUnfit: The proof does not cover the requested engine and precision, or the measurement did not pass.
        EngineMissing: The requested engine does not support the device.
    """
    passed = proven(proof)
    if wanted.engine in TENSORRT_ENGINES:
        passed |= {(kind, wanted.engine) for kind, engine in passed if engine == "onnxruntime" and kind != "int8-cpu"}
        if wanted.precision == "auto":
            wanted = replace(wanted, precision="fp16" if ("fp16", wanted.engine) in passed else "fp32")
    for engine in engines_for(wanted):
        kinds = {kind for kind, proven_engine in passed if proven_engine == engine}
        if wanted.precision == "auto" and "fp32" in kinds:
            options = wanted if "bf16" in kinds else replace(wanted, precision="fp32")
            return card.graphs["fp32"], replace(options, engine=engine)
        if wanted.precision in kinds:
            cpu_variant = wanted.precision == "int8" and wanted.device == "cpu" and "int8-cpu" in kinds
            kind = "int8-cpu" if cpu_variant else "fp32" if wanted.precision == "bf16" else wanted.precision
            return card.graphs[kind], replace(wanted, engine=engine)
    available = ", ".join(f"{kind} on {engine}" for kind, engine in sorted(passed)) or "none"
    engines = " or ".join(engines_for(wanted))
    precision = "fp32" if wanted.precision == "auto" else wanted.precision
    raise ArtefactUnfit(
        f"{card.name} was not proven in {precision} on {engines} and is therefore not served; proven: {available}"
    )


def engine_of(directory: Path, graph: str) -> Path:
    """Return the path of a graph's engine that was built for this GPU and this version of TensorRT.

    Raises:
        EngineMissing: The engine was not built, or the GPU or TensorRT is missing.
    """
    name = engine_file(graph, find_gpu(), str(load_tensorrt().__version__))
    if not (directory / name).is_file():
        raise EngineMissing(f"{directory.name} has no {name}; build it on this machine: vultus engine --gpu")
    return directory / name


def require_parity(session: Session, graph: Path, card: Card) -> None:
    """Compare a session with ONNX Runtime on the CPU, on the same graph and synthetic faces.

    Raises:
        ArtefactUnfit: The embeddings differ by more than the limits of the precision.
    """
    size = (card.height, card.width)
    faces, described = synthetic_pictures(_FACES, *size), session.describe()
    plain = RuntimeOptions("onnxruntime", precision=described.precision)
    reference = Embeddings(*open_session(graph, EMBEDDER_OUTPUTS, (size,), plain).run(faces))
    candidate = Embeddings(*session.run(faces))
    failures = compare(reference.raw, candidate).failures(described.precision)
    if failures:
        raise ArtefactUnfit(f"{card.name} on {described.engine} is not the same model: {'; '.join(failures)}")
