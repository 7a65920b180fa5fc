"""TensorRT engines in the data directory: one directory for each GPU, TensorRT and driver, one file for each graph.

A record beside each engine states what it was built from and for, and its SHA-256. An engine that differs from its
record, or whose graph or machine is another one, is not loaded.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.artefact.digests import file_digest
from models.artefact.directories import write_text
from models.errors import EngineMissing
from models.runtime.gpu import Gpu, gpu_key
from models.runtime.session import Precision


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine depends on.

    Attributes:
        gpu: The GPU that it was built on.
        tensorrt: Version of TensorRT.
        graph: SHA-256 of the ONNX file that it was built from.
        precision: Precision of its arithmetic; the float32 graph has an engine for fp32 and one for tf32.
    """

    gpu: Gpu
    tensorrt: str
    graph: str
    precision: Precision

    @property
    def directory(self) -> str:
        """Name of the directory of the GPU, TensorRT and driver."""
        return gpu_key(self.gpu, self.tensorrt)

    @property
    def name(self) -> str:
        """Name of the graph and precision, without extension."""
        return f"{self.graph[:24]}.{self.precision}"

    def path(self, root: Path) -> Path:
        """Return the path of the engine in the directory of engines."""
        return root / self.directory / f"{self.name}.engine"

    def record(self) -> dict[str, Any]:
        """Return the record without the digest of the engine."""
        return {
            **asdict(self.gpu),
            "capability": list(self.gpu.capability),
            "tensorrt": self.tensorrt,
            "graph": self.graph,
            "precision": self.precision,
        }


def write_record(engine: Path, key: EngineKey) -> None:
    """Write the record of a built engine beside it.

    Raises:
        StorageFailed: The file system refused the write.
    """
    content = {**key.record(), "engine": file_digest(engine)}
    write_text(engine.with_suffix(".json"), json.dumps(content, indent=1) + "\n")


def verified_engine(root: Path, key: EngineKey) -> Path:
    """Return the path of an engine that is the one of its record.

    Raises:
        EngineMissing: It was not built, or differs from its record.
    """
    path = key.path(root)
    if not path.is_file():
        raise EngineMissing(
            f"no TensorRT engine was built for this graph in {key.precision} on {key.gpu.name} with TensorRT "
            f"{key.tensorrt} and driver {key.gpu.driver}; build it on this machine: vultus engine --gpu"
        )
    try:
        recorded = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError, RecursionError):
        recorded = None
    if recorded != {**key.record(), "engine": file_digest(path)}:
        raise EngineMissing(f"the engine {path.name} differs from its record; build it again: vultus engine --gpu")
    return path
