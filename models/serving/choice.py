"""Of the choices to run a recognizer, those that its proof covers; what it cannot cover is proven at the start."""

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

_FACES = 16


def proven_runtime(card: Card, proof: dict[str, Any], wanted: RuntimeOptions) -> tuple[str, RuntimeOptions]:
    """Choose graph file, engine and arithmetic, of those that the artefact's proof covers.

    `auto` is bfloat16 where engine and processor have it and the proof allows it, else float32. What was proven on a
    CPU stands for ONNX Runtime on CUDA; TensorRT takes what was proven on ONNX Runtime, float16 if it can, and is
    compared with it by `require_parity` when it is loaded.

    Raises:
        ArtefactUnfit: What is wanted was not measured, or did not pass.
        EngineMissing: The engine that is asked for does not run on that device.
    """
    passed = proven(proof)
    if wanted.engine in TENSORRT_ENGINES:
        passed |= {(kind, wanted.engine) for kind, engine in passed if engine == "onnxruntime" and kind != "int8-cpu"}
        if wanted.precision == "auto":
            wanted = replace(wanted, precision="fp16" if ("fp16", wanted.engine) in passed else "fp32")
    for engine in engines_for(wanted):
        kinds = {kind for kind, proven_engine in passed if proven_engine == engine}
        if wanted.precision == "auto" and "fp32" in kinds:
            only = wanted if "bf16" in kinds else replace(wanted, precision="fp32")
            return card.graphs["fp32"], replace(only, engine=engine)
        if wanted.precision in kinds:
            cpu_variant = wanted.precision == "int8" and wanted.device == "cpu" and "int8-cpu" in kinds
            kind = "int8-cpu" if cpu_variant else "fp32" if wanted.precision == "bf16" else wanted.precision
            return card.graphs[kind], replace(wanted, engine=engine)
    there = ", ".join(f"{kind} on {engine}" for kind, engine in sorted(passed)) or "nothing"
    engines = " or ".join(engines_for(wanted))
    asked = "fp32" if wanted.precision == "auto" else wanted.precision
    raise ArtefactUnfit(
        f"{card.name} was not proven in {asked} on {engines}, so it is not served so; proven are {there}"
    )


def engine_of(directory: Path, graph: str) -> Path:
    """Find the engine of a graph that was built for this GPU and this TensorRT.

    Raises:
        EngineMissing: There is none, or no GPU, or no TensorRT.
    """
    name = engine_file(graph, find_gpu(), str(load_tensorrt().__version__))
    if not (directory / name).is_file():
        raise EngineMissing(f"{directory.name} has no {name}; build it on this machine: vultus engine --gpu")
    return directory / name


def require_parity(session: Session, graph: Path, card: Card) -> None:
    """Compare a session with ONNX Runtime on the CPU, on the same graph and drawn pictures.

    Raises:
        ArtefactUnfit: It is not the same model.
    """
    size = (card.height, card.width)
    faces, described = synthetic_pictures(_FACES, *size), session.describe()
    plain = RuntimeOptions("onnxruntime", precision=described.precision)
    reference = Embeddings(*open_session(graph, EMBEDDER_OUTPUTS, (size,), plain).run(faces))
    candidate = Embeddings(*session.run(faces))
    why = compare(reference.embedding * reference.norm[:, None], candidate).failures(described.precision)
    if why:
        raise ArtefactUnfit(f"{card.name} on {described.engine} is not the same model: {'; '.join(why)}")
