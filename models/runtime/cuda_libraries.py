"""Load the CUDA libraries of the installed packages before a provider of ONNX Runtime needs them.

The packages `nvidia-*` keep their libraries in `site-packages/nvidia`, where the system's loader does not search.
`onnxruntime.preload_dlls` loads them by path. If a provider still cannot be loaded, ONNX Runtime logs the missing
library and continues without the provider, so the provider is loaded here once more to learn the name.
"""

import contextlib
import ctypes
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

from models.runtime.gpu import TENSORRT_INSTALL

_PROVIDER_LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
_MISSING = re.compile(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object file")
_PACKAGES = {  # beginning of a library's name, and the package that contains it
    "libcublas": "nvidia-cublas",
    "libcudart": "nvidia-cuda-runtime",
    "libcudnn": "nvidia-cudnn-cu13",
    "libcufft": "nvidia-cufft",
    "libcurand": "nvidia-curand",
    "libcusolver": "nvidia-cusolver",
    "libcusparse": "nvidia-cusparse",
    "libnvJitLink": "nvidia-nvjitlink",
    "libnvrtc": "nvidia-cuda-nvrtc",
}


@cache
def preload(ort: Any) -> str:
    """Load the CUDA libraries of the installed packages. Return what ONNX Runtime printed about those it did not find.

    What is printed goes to the caller and not to the output of a command.

    Args:
        ort: The module `onnxruntime`.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ort.preload_dlls()
    return printed.getvalue()


def missing_library(ort: Any, provider: str) -> str | None:
    """Return a sentence that names the library without which a provider cannot be loaded, or None if it can be.

    Call it only after a session with the provider failed, because a provider is loaded as a side effect.
    """
    directory = Path(ort.__file__).parent / "capi"
    if not (directory / _PROVIDER_LIBRARIES[provider]).is_file():
        return None
    try:
        ctypes.CDLL(str(directory / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(directory / _PROVIDER_LIBRARIES[provider]))
    except OSError as error:
        return explain(str(error), ort.__version__) or str(error)
    return None


def explain(error: str, version: str) -> str | None:
    """Return the sentence for a loader's error that names a missing library, or None for another error."""
    found = _MISSING.search(error)
    if not found:
        return None
    library = found[1]
    if library.startswith("libcuda.so"):
        return f"{library} is missing: install the NVIDIA driver"
    if library.startswith(("libnvinfer", "libnvonnxparser")):
        return f"{library} is missing: {TENSORRT_INSTALL}"
    package = next((name for start, name in _PACKAGES.items() if library.startswith(start)), None)
    origin = f", which the package {package} contains," if package else ""
    return f'{library}{origin} is missing: pip install "onnxruntime-gpu[cuda,cudnn]=={version}"'
