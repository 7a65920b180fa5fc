"""Description of the machine: the processor, its cores, the GPU and the engine versions, on which speed depends."""

import platform
from importlib import metadata
from pathlib import Path

from models.errors import EngineMissing
from models.runtime.gpu import find_gpus
from models.runtime.loading import usable_cores

_ENGINES = ("openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt-cu13")
_CPUINFO = Path("/proc/cpuinfo")
_CPUINFO_FIELDS = ("model name", "cpu family", "model", "stepping")


def describe_machine() -> dict[str, str]:
    """Return everything about this machine on which a tuning depends."""
    return {"cpu": _processor(), "cores": str(usable_cores()), "gpu": _gpu(), **_versions()}


def _processor() -> str:
    """Return name and family numbers of the processor. Many cloud machines name only the manufacturer."""
    try:
        lines = (line.partition(":")[::2] for line in _CPUINFO.read_text().splitlines())
    except OSError:
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for name, value in lines:
        fields.setdefault(name.strip(), value.strip())
    return " ".join(fields[name] for name in _CPUINFO_FIELDS if name in fields) or platform.machine()


def _gpu() -> str:
    try:
        gpus = find_gpus()
    except EngineMissing:
        return "none"
    return ", ".join(f"{gpu.name} {gpu.capability[0]}.{gpu.capability[1]} driver {gpu.driver}" for gpu in gpus)


def _versions() -> dict[str, str]:
    versions = {}
    for engine in _ENGINES:
        try:
            versions[engine] = metadata.version(engine)
        except metadata.PackageNotFoundError:
            continue
    return versions
