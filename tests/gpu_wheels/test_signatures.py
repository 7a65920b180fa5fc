"""The calls that the tests make on fakes exist in the real packages, with these parameters and defaults."""

import inspect
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from cuda.bindings import runtime as cuda

from models.runtime.gpu import TENSORRT
from service.gallery.index.device import GpuCopies, gpu_copies
from service.gallery.index.faiss_vectors import new_vectors
from tests.gpu_wheels.stubs import compile_stubs, compiler
from tests.models.runtime.fake_cuda import FakeCuda


def test_the_fake_of_cuda_has_the_functions_and_parameters_of_the_runtime() -> None:
    names = [name for name in dir(FakeCuda) if name.startswith("cuda") and callable(getattr(FakeCuda, name))]
    for name in names:
        if name == "cudaMemcpyKind":
            continue
        real = list(inspect.signature(getattr(cuda, name)).parameters)
        fake = list(inspect.signature(getattr(FakeCuda, name)).parameters)[1:]
        assert len(real) == len(fake), f"{name}: {real}"
    assert cuda.cudaHostAllocDefault == FakeCuda.cudaHostAllocDefault
    assert cuda.cudaStreamNonBlocking == 1
    for member in FakeCuda.cudaMemcpyKind:
        assert int(getattr(cuda.cudaMemcpyKind, member.name)) == member.value


def test_the_runtime_of_cuda_returns_a_code_and_then_a_value() -> None:
    """Without a driver every call fails, in the form that `_value` reads."""
    for returned, values in ((cuda.cudaSetDevice(0), 0), (cuda.cudaMalloc(16), 1)):
        code, *others = returned
        assert int(code) == 35  # cudaErrorInsufficientDriver
        assert len(others) == values
    assert int(cuda.cudaStream_t(77)) == 77


DOCUMENTED = {  # the parameters after `self`, by class and method; with `= …` for a default
    "Builder.build_serialized_network": "network config",
    "Builder.create_builder_config": "",
    "Builder.create_network": "flags=",
    "Builder.create_optimization_profile": "",
    "IBuilderConfig.add_optimization_profile": "profile",
    "IBuilderConfig.clear_flag": "flag",
    "IBuilderConfig.create_timing_cache": "serialized_timing_cache",
    "IBuilderConfig.get_timing_cache": "",
    "IBuilderConfig.set_flag": "flag",
    "IBuilderConfig.set_memory_pool_limit": "pool pool_size",
    "IBuilderConfig.set_timing_cache": "cache ignore_mismatch",
    "ICudaEngine.create_execution_context": "strategy=",
    "ICudaEngine.get_tensor_profile_shape": "name profile_index",
    "ICudaEngine.get_tensor_shape": "name",
    "IExecutionContext.execute_async_v3": "stream_handle",
    "IExecutionContext.set_input_shape": "name shape",
    "IExecutionContext.set_tensor_address": "name memory",
    "IOptimizationProfile.set_shape": "input min opt max",
    "IProgressMonitor.phase_finish": "phase_name",
    "IProgressMonitor.phase_start": "phase_name parent_phase num_steps",
    "IProgressMonitor.step_complete": "phase_name step",
    "ITimingCache.serialize": "",
    "Logger.__init__": "min_severity=",
    "OnnxParser.__init__": "network logger",
    "OnnxParser.get_error": "index",
    "OnnxParser.parse_from_file": "model",
    "Runtime.__init__": "logger",
    "Runtime.deserialize_cuda_engine": "serialized_engine",
}
BINDINGS = """
import json, sys
import tensorrt_bindings as trt
names = {}
for path in json.loads(sys.argv[1]):
    kind, method = path.split(".")
    names[path] = getattr(getattr(trt, kind), method).__doc__
attributes = ["BuilderFlag.TF32", "MemoryPoolType.WORKSPACE", "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "IBuilderConfig.builder_optimization_level", "IBuilderConfig.progress_monitor", "OnnxParser.num_errors"]
for path in attributes:
    kind, name = path.split(".")
    getattr(getattr(trt, kind), name)
strong = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
errors = []
for start in (trt.Builder, trt.Runtime):
    try:
        start(trt.Logger(trt.Logger.WARNING))
    except Exception as error:
        errors.append(type(error).__name__)
print(json.dumps([trt.__version__, strong, errors, names]))
"""


@pytest.mark.skipif(compiler() is None, reason="there is no C compiler for the stubs of driver and TensorRT")
def test_the_fake_of_tensorrt_has_the_methods_and_parameters_of_the_bindings(tmp_path: Path) -> None:
    compile_stubs(tmp_path)
    command = [sys.executable, "-c", BINDINGS, json.dumps(list(DOCUMENTED))]
    done = subprocess.run(
        command, env={"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    version, strong, errors, documented = json.loads(done.stdout.splitlines()[-1])
    assert (version, strong) == (TENSORRT, 1)
    assert errors == ["TypeError"] * 2  # what `TensorRtSession` and `build_engine` catch
    for name, expected in DOCUMENTED.items():
        assert expected in overloads(documented[name], name.split(".")[1]), f"{name}: {documented[name]}"


def overloads(text: str, method: str) -> list[str]:
    """Return the parameters of every overload in a docstring of pybind11, in the form of `DOCUMENTED`."""
    found = []
    for listed in re.findall(rf"^(?:\d+\. )?{method}\((self.*)\) ->", text, re.MULTILINE):
        parts = re.findall(r"(\w+): [^=,()]*(= )?", re.sub(r"<[^>]*>", "", listed))
        found.append(" ".join(f"{name}{'=' if default else ''}" for name, default in parts if name != "self"))
    return found


def test_the_packages_are_the_ones_that_were_checked() -> None:
    assert metadata.version("tensorrt-cu13-bindings") == TENSORRT
    assert metadata.version("onnxruntime-gpu").startswith("1.31.")
    assert metadata.version("faiss-gpu-cuvs").startswith("1.15.")


def test_faiss_has_the_functions_of_gpus_and_refuses_where_there_is_none() -> None:
    options = faiss.GpuClonerOptions()
    assert isinstance(options.useFloat16, bool)
    assert options.use_cuvs is False  # with it, other limits of the depth would hold
    assert list(inspect.signature(faiss.index_cpu_to_gpu).parameters) == ["provider", "device", "index", "options"]
    flat = new_vectors("flat", 16, np.empty((0, 16), np.float32))
    assert faiss.isGpuIndexImplemented(flat)
    assert faiss.get_num_gpus() == 0
    assert gpu_copies("flat") is None
    with pytest.raises(RuntimeError, match="Invalid GPU device 0"):
        faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, flat, options)


@pytest.mark.parametrize("half", [False, True])
def test_a_copy_that_faiss_refuses_stays_on_the_host(half: bool) -> None:
    copies = GpuCopies(half)
    flat: Any = new_vectors("flat", 16, np.empty((0, 16), np.float32))
    assert copies.copy(flat) is None
    assert copies.copy(flat) is None
