"""ONNX Runtime's own code, of the real `onnxruntime-gpu`, reads our options, finds its libraries, and refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.gpu_wheels.stubs import compile_stubs, compiler

ROOT = Path(__file__).parents[2]
CAPI = Path(onnxruntime.__file__).parent / "capi"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
NO_GPU = "no CUDA-capable device is detected"  # what follows correct options

OPEN = """
import json, sys
import onnxruntime
from models.runtime.cuda_libraries import preload
preload(onnxruntime)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
answers = []
for providers in json.load(sys.stdin):
    try:
        pairs = [tuple(one) for one in providers]
        onnxruntime.InferenceSession(sys.argv[1], options, providers=pairs, enable_fallback=0)
        answers.append("")
    except Exception as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
OPTIONS = """
import json, sys
from pathlib import Path
from models.runtime import onnxruntime_engine as engine
from models.runtime.gpu import TENSORRT, Gpu
engine.find_gpu = lambda number: Gpu("NVIDIA L4", (8, 9), "580.65.06")
engine.load_tensorrt = lambda: type("TensorRT", (), {"__version__": TENSORRT})
graph, build = Path(sys.argv[1]), engine.TensorRtBuild(Path(sys.argv[2]), 32)
cuda = {precision: engine._cuda_options(precision, 0) for precision in ("fp32", "tf32", "fp16", "int8")}
tensorrt = {
    f"{precision} {outputs[0]}": engine._tensorrt_options(graph, outputs, precision, sizes, 0, build)
    for precision in ("fp32", "fp16", "int8")
    for outputs, sizes in ((("embedding",), ((112, 112),)), (("scores",), ((128, 128), (640, 480), (640, 640))))
}
print(json.dumps([cuda, tensorrt]))
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that the providers would run."""
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 112, 112, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 112, 112, 3])
    cast = helper.make_node("Cast", ["faces"], ["embedding"], to=TensorProto.FLOAT)
    model = helper.make_model(
        helper.make_graph([cast], "g", [faces], [embedding]), opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    )
    path = tmp_path_factory.mktemp("graph") / "embedder.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("there is no C compiler for the stubs of driver and TensorRT")
    directory = tmp_path_factory.mktemp("stubs")
    compile_stubs(directory)
    return directory


def run(program: str, *arguments: Path, libraries: Path | None = None, given: Any = None, **variables: str) -> str:
    """Run a program in a process of its own, because a library stays loaded, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    if libraries:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, input=json.dumps(given), env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(graph: Path, stubs: Path, *providers: list[tuple[str, dict[str, str]]]) -> list[str]:
    """Open a session for each list of providers and return the errors of ONNX Runtime."""
    return list(json.loads(run(OPEN, graph, libraries=stubs, given=providers).splitlines()[-1]))


@pytest.fixture(scope="module")
def ours(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, str]]]:
    """The options that the service gives to CUDA and to TensorRT, by precision."""
    return list(json.loads(run(OPTIONS, graph, tmp_path_factory.mktemp("engines"))))


def test_the_cuda_provider_accepts_every_option(graph: Path, stubs: Path, ours: list[dict[str, Any]]) -> None:
    """One option at a time, because the number of the GPU is compared with the GPUs while the options are read."""
    single = sorted({option for options in ours[0].values() for option in options.items()})
    assert len(single) == 5  # TF32 is on and off
    for (name, value), error in zip(single, answers(graph, stubs, *([(CUDA, {n: v})] for n, v in single)), strict=True):
        assert NO_GPU in error, f"{name}={value}: {error}"
        assert ("Failed to parse provider option" in error) == (name == "device_id"), f"{name}={value}: {error}"


def test_the_tensorrt_provider_accepts_every_option(graph: Path, stubs: Path, ours: list[dict[str, Any]]) -> None:
    tensorrt = ours[1]
    errors = answers(graph, stubs, *([(TENSORRT, one)] for one in tensorrt.values()))
    for name, error in zip(tensorrt, errors, strict=True):
        assert NO_GPU in error, f"{name}: {error}"
        assert "option" not in error, f"{name}: {error}"


def test_the_providers_refuse_what_the_fakes_refuse(graph: Path, stubs: Path) -> None:
    """Otherwise the two tests above would show nothing."""
    errors = answers(
        graph,
        stubs,
        [(TENSORRT, {"trt_fp16_enable": "1"})],
        [(TENSORRT, {"trt_fp16_enabled": "True"})],
        [(CUDA, {"use_tf": "0"})],
        [(CUDA, {"use_tf32": "off"})],
        [(CUDA, {"cudnn_conv_algo_search": "FAST"})],
    )
    said = ["should be 'True' or 'False'", "Invalid TensorRT EP option", "Unknown provider option", "use_tf32", "FAST"]
    for error, expected in zip(errors, said, strict=True):
        assert expected in error


def test_the_provider_of_tensorrt_has_no_option_for_tf32() -> None:
    """If it has one, `NVIDIA_TF32_OVERRIDE` is no longer needed."""
    (bindings,) = CAPI.glob("onnxruntime_pybind11_state*.so")
    names = set(re.findall(rb"trt_[a-z0-9_]{3,}", bindings.read_bytes()))
    assert {b"trt_fp16_enable", b"trt_timing_cache_path"} <= names
    assert not [name for name in names if b"tf32" in name]


NEEDED = """
import ctypes, json, sys
import onnxruntime
from models.runtime.cuda_libraries import preload
if sys.argv[1] == "preload":
    printed = preload(onnxruntime)
missing = []
for name in json.load(sys.stdin):
    try:
        ctypes.CDLL(name)
    except OSError:
        missing.append(name)
print(json.dumps(missing))
"""


def needed(*libraries: Path) -> list[str]:
    text = subprocess.run(["readelf", "-d", *libraries], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)\]", text)))


def test_every_library_of_the_providers_is_found_after_preloading() -> None:
    names = [*needed(*CAPI.glob("libonnxruntime_providers_*.so")), "libcudnn.so.9", "libcufft.so.12", "libnvrtc.so.13"]
    missing = json.loads(run(NEEDED, Path("preload"), given=names))
    assert missing == ["libcuda.so.1", "libnvinfer.so.10", "libnvonnxparser.so.10"]  # the driver and TensorRT
    assert "libcublasLt.so.13" in json.loads(run(NEEDED, Path("nothing"), given=names))


def test_the_provider_and_the_bindings_link_the_same_tensorrt() -> None:
    bindings = next(Path(onnxruntime.__file__).parents[1].glob("tensorrt_bindings/tensorrt*.so"))
    provider = CAPI / "libonnxruntime_providers_tensorrt.so"
    linked = [{name for name in needed(library) if name.startswith("libnvinfer.")} for library in (provider, bindings)]
    assert linked == [{"libnvinfer.so.10"}] * 2


REFUSE = """
import sys
from pathlib import Path
from models.errors import EngineError
from models.runtime import RuntimeOptions, onnxruntime_engine, open_session
from models.runtime.gpu import TENSORRT, Gpu
engine, prepare = sys.argv[2:4]
if prepare == "without preloading":
    onnxruntime_engine.preload = lambda ort: ""
if prepare == "with a GPU":
    onnxruntime_engine.find_gpu = lambda number: Gpu("NVIDIA L4", (8, 9), "580.65.06")
if prepare == "with TensorRT":
    onnxruntime_engine.find_gpu = lambda number: Gpu("NVIDIA L4", (8, 9), "580.65.06")
    onnxruntime_engine.load_tensorrt = lambda: type("TensorRT", (), {"__version__": TENSORRT})
try:
    options = RuntimeOptions(engine, "cuda", engines=Path(sys.argv[4]))
    open_session(Path(sys.argv[1]), ("embedding",), ((112, 112),), options)
except EngineError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("engine", "prepare", "sentence"),
    [
        (
            "onnxruntime",
            "",
            "CUDAExecutionProvider does not start on this machine: libcuda.so.1 is missing: install the NVIDIA driver",
        ),
        (
            "onnxruntime",
            "without preloading",
            "CUDAExecutionProvider does not start on this machine: libcublasLt.so.13, which the package nvidia-cublas "
            f'contains, is missing: pip install "onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}"',
        ),
        (
            "onnxruntime-tensorrt",
            "",
            "no NVIDIA driver was found (libcuda.so.1); the device cuda needs one",
        ),
        (
            "onnxruntime-tensorrt",
            "with a GPU",
            "TensorRT is not installed: pip install tensorrt-cu13==10.16.1.11",
        ),
        (
            "onnxruntime-tensorrt",
            "with TensorRT",
            "TensorrtExecutionProvider does not start on this machine: libnvinfer.so.10 is missing: "
            "pip install tensorrt-cu13==10.16.1.11",
        ),
        ("tensorrt", "", "TensorRT is not installed: pip install tensorrt-cu13==10.16.1.11"),
    ],
)
def test_what_is_missing_is_named(engine: str, prepare: str, sentence: str, graph: Path, tmp_path: Path) -> None:
    printed = run(REFUSE, graph, Path(engine), Path(prepare) if prepare else Path("-"), tmp_path)
    assert printed.splitlines() == [sentence]


def test_a_driver_without_a_gpu_is_refused(graph: Path, stubs: Path, tmp_path: Path) -> None:
    printed = run(REFUSE, graph, Path("onnxruntime"), Path("-"), tmp_path, libraries=stubs)
    (sentence,) = printed.splitlines()
    assert sentence == f"CUDAExecutionProvider does not start on this machine: CUDA failure 100: {NO_GPU}"
