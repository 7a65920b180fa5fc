"""What a measured speed depends on beside the model: the processor, its cores, the GPU, the engines' versions."""

import platform
from importlib import metadata
from pathlib import Path

from models.errors import EngineMissing
from models.runtime.gpu import find_gpu
from models.runtime.loading import usable_cores

_ENGINES = ("openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt")
_CPUINFO = Path("/proc/cpuinfo")
_TOLD = ("model name", "cpu family", "model", "stepping")


def describe_machine() -> dict[str, str]:
    """Describe this machine by all that a tuned choice hangs on."""
    return {"cpu": _processor(), "cores": str(usable_cores()), "gpu": _gpu(), **_versions()}


def _processor() -> str:
    """Name the processor: many cloud machines say no more than its maker, so the numbers of its family go along."""
    try:
        lines = (line.partition(":")[::2] for line in _CPUINFO.read_text().splitlines())
    except OSError:
        return platform.processor() or platform.machine()
    told: dict[str, str] = {}
    for name, value in lines:
        told.setdefault(name.strip(), value.strip())
    return " ".join(told[name] for name in _TOLD if name in told) or platform.machine()


def _gpu() -> str:
    try:
        gpu = find_gpu()
    except EngineMissing:
        return "none"
    return f"{gpu.name} {gpu.capability[0]}.{gpu.capability[1]}"


def _versions() -> dict[str, str]:
    versions = {}
    for engine in _ENGINES:
        try:
            versions[engine] = metadata.version(engine)
        except metadata.PackageNotFoundError:
            continue
    return versions
