"""Detection of the GPU and of TensorRT, and the file names of engines built for them."""

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

from models.errors import EngineMissing

_DRIVER = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute in cuda.h


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as reported by its driver.

    Attributes:
        name: Product name, such as `NVIDIA L4`.
        capability: Compute capability, (major, minor).
    """

    name: str
    capability: tuple[int, int]


def load_tensorrt() -> Any:
    """Import TensorRT.

    Raises:
        EngineMissing: TensorRT is not installed, or its libraries cannot be loaded.
    """
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise EngineMissing(
            "TensorRT is not installed; install the package `tensorrt` on a machine with a GPU"
        ) from error
    except ImportError as error:
        raise EngineMissing(f"TensorRT is installed, but its libraries cannot be loaded: {error}") from error


def find_gpu() -> Gpu:
    """Return the first GPU of the driver, as selected by `CUDA_VISIBLE_DEVICES`.

    Raises:
        EngineMissing: The driver is not installed, or it finds no GPU.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise EngineMissing(
            f"no NVIDIA driver was found ({_DRIVER}); engines must be built on the GPU that runs them"
        ) from error
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    codes = [
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    ]
    if any(codes):
        code = next(code for code in codes if code)
        raise EngineMissing(f"the NVIDIA driver finds no GPU (CUDA error {code})")
    return Gpu(name.value.decode(), (major.value, minor.value))


def engine_key(gpu: Gpu, version: str) -> str:
    """Return the GPU architecture and TensorRT version that an engine is valid for."""
    return f"sm{gpu.capability[0]}{gpu.capability[1]}-trt{version}"


def engine_file(graph: str, gpu: Gpu, version: str) -> str:
    """Return the file name of a graph's engine: `embedder.fp16.onnx` becomes `embedder.fp16.sm90-trt11.4.0.engine`."""
    return f"{graph.removesuffix('.onnx')}.{engine_key(gpu, version)}.engine"
