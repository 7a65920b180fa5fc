"""GPUs as reported by the driver, the pinned TensorRT, and the names of the files built for both."""

import ctypes
import importlib
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from models.errors import EngineConflict, EngineMissing

TENSORRT = "10.16.1.11"  # ONNX Runtime 1.31 links libnvinfer.so.10; engines of `vultus engine` use the same libraries
TENSORRT_INSTALL = f"pip install tensorrt-cu13=={TENSORRT}"

_DRIVER = "libcuda.so.1"
_DRIVER_VERSION = Path("/sys/module/nvidia/version")
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute in cuda.h
_TENSORRT_PACKAGES = tuple(
    f"tensorrt{cuda}{part}" for cuda in ("", "-cu12", "-cu13") for part in ("", "-bindings", "-libs")
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as reported by its driver.

    Attributes:
        name: Product name, such as `NVIDIA L4`.
        capability: Compute capability, (major, minor).
        driver: Version of the driver; the version of CUDA that it supports, if the system does not state it.
    """

    name: str
    capability: tuple[int, int]
    driver: str


def load_tensorrt() -> Any:
    """Import TensorRT, which also loads its libraries for ONNX Runtime.

    Raises:
        EngineMissing: TensorRT is not installed, or its libraries cannot be loaded.
        EngineConflict: Another version is installed than the one that ONNX Runtime requires.
    """
    _refuse_other_tensorrt({name: version for name in _TENSORRT_PACKAGES if (version := _installed(name))})
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise EngineMissing(f"TensorRT is not installed: {TENSORRT_INSTALL}") from error
    except ImportError as error:
        raise EngineMissing(
            f"TensorRT is installed, but its libraries cannot be loaded ({error}): {TENSORRT_INSTALL}"
        ) from error
    _refuse_other_tensorrt({"tensorrt": str(trt.__version__)})
    return trt


def find_gpus() -> list[Gpu]:
    """Return the GPUs of the driver, in its order, as selected by `CUDA_VISIBLE_DEVICES`.

    Raises:
        EngineMissing: The driver is not installed, or it finds no GPU.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise EngineMissing(f"no NVIDIA driver was found ({_DRIVER}); the device cuda needs one") from error
    count, cuda = ctypes.c_int(), ctypes.c_int()
    _check(driver.cuInit(0))
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), driver.cuDriverGetVersion(ctypes.byref(cuda)))
    if not count.value:
        raise EngineMissing("the NVIDIA driver finds no GPU")
    version = _driver_version() or f"cuda{cuda.value // 1000}.{cuda.value % 1000 // 10}"
    return [_describe(driver, index, version) for index in range(count.value)]


def find_gpu(index: int = 0) -> Gpu:
    """Return one GPU of the driver.

    Raises:
        EngineMissing: The driver is not installed, or it has no GPU of this number.
    """
    gpus = find_gpus()
    if index >= len(gpus):
        raise EngineMissing(f"the NVIDIA driver has no GPU {index}; it has {len(gpus)}, counted from 0")
    return gpus[index]


def gpu_key(gpu: Gpu, version: str) -> str:
    """Return the name of the directory of what TensorRT builds for a GPU, its driver and a version of TensorRT.

    The compute capability alone is not enough: an H100 and an H200 have the same one, and other fastest kernels.
    """
    name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    return f"{name}-sm{gpu.capability[0]}{gpu.capability[1]}-trt{version}-driver{gpu.driver}"


def _describe(driver: Any, index: int, version: str) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(driver.cuDeviceGet(ctypes.byref(device), index))
    _check(
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    )
    return Gpu(name.value.decode(), (major.value, minor.value), version)


def _check(*codes: int) -> None:
    if any(codes):
        code = next(code for code in codes if code)
        raise EngineMissing(f"the NVIDIA driver finds no GPU (CUDA error {code})")


def _driver_version() -> str:
    try:
        version = _DRIVER_VERSION.read_text().strip()
    except OSError:
        return ""
    return version if re.fullmatch(r"[0-9.]{1,32}", version) else ""


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _refuse_other_tensorrt(versions: dict[str, str]) -> None:
    """Refuse any TensorRT but the pinned release: a plan or a provider of another one fails in obscure ways."""
    pinned = TENSORRT.split(".")[:2]
    others = [f"{name} {version}" for name, version in versions.items() if version.split(".")[:2] != pinned]
    if others:
        raise EngineConflict(
            f"{' and '.join(others)} is installed, but ONNX Runtime and the engines of Vultus require TensorRT "
            f"{'.'.join(pinned)}; uninstall every tensorrt package, then: {TENSORRT_INSTALL}"
        )
