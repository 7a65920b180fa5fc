"""Add TensorRT engines to an artefact and list them on its card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.artefact.card import write_card
from models.artefact.digests import file_digest
from models.artefact.integrity import open_artefact
from models.errors import StorageFailed
from models.export.tensorrt import build_engine
from models.runtime.gpu import Gpu, engine_file, engine_key
from models.types import Progress

_NOT_FOR_GPUS = {"int8-cpu"}  # TensorRT does not support its unsigned activations


def add_engines(artefact: Path, trt: Any, gpu: Gpu, caches: Path, progress: Progress) -> list[Path]:
    """Build an engine for each graph of an artefact and write it into the artefact.

    Engines for other GPUs and TensorRT versions stay.

    Args:
        artefact: Directory of an intact, proven artefact.
        trt: The module `tensorrt`.
        gpu: The GPU to build for.
        caches: Directory of timing caches.
        progress: Called with the name of each engine before its build, then with TensorRT's phases.

    Returns:
        Paths of the built engines.

    Raises:
        PackDamaged: A file of the artefact is missing or altered.
        ArtefactUnfit: The artefact did not pass its proof or has a layout that is not served.
        EngineBuildFailed: TensorRT rejects a graph.
        StorageFailed: The file system refused to write.
    """
    card, _ = open_artefact(artefact)
    version = str(trt.__version__)
    built: list[Path] = []
    try:
        for kind, graph in card.graphs.items():
            if kind in _NOT_FOR_GPUS:
                continue
            target = artefact / engine_file(graph, gpu, version)
            progress(f"building {target.name}", 0, None)
            cache = caches / f"{engine_key(gpu, version)}.timing"
            build_engine(trt, artefact / graph, (card.height, card.width), target, cache, progress)
            built.append(target)
            made_for = {"gpu": gpu.name, "tensorrt": version, "graph": graph}
            files = {**card.files, target.name: file_digest(target)}  # not of a calibration, which may be replaced
            card = replace(card, engines={**card.engines, target.name: made_for}, files=files)
            write_card(artefact, card)
    except OSError as error:
        raise StorageFailed(f"{artefact} could not be written: {error.strerror or error}") from error
    return built
