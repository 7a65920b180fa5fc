"""GPU sessions on fakes that record the calls. The tests check the calls and run without a GPU.

The fake of CUDA has separate device memory, so that arrays must be copied there and back. `tests.gpu_wheels` compares
the names and signatures of the fakes with those of the real packages; any other name is an AttributeError.
"""

import ctypes
import gc
import os
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.artefact.card import Card
from models.errors import ArtefactUnfit, EngineConflict, EngineMissing, InferenceFailed, PrecisionUnsupported
from models.runtime import RuntimeOptions, SessionDescription, loading, open_session
from models.runtime.cuda_libraries import explain
from models.runtime.engine_files import EngineKey, write_record
from models.runtime.fake import FakeSession, fake_embedding
from models.runtime.gpu import TENSORRT, Gpu, find_gpus, load_tensorrt
from models.runtime.pool import SessionPool
from models.runtime.session import gpu_buckets
from models.runtime.tensorrt_engine import TensorRtSession, load_cuda
from models.serving.choice import proven_runtimes, row_of
from models.serving.comparison import require_parity
from tests.models.runtime.fake_cuda import FakeCuda
from tests.models.runtime.test_engines import load, tiny  # noqa: F401

SIDE, NUMBERS, MAX_BATCH = 4, 6, 8
H100, H200 = (Gpu(f"NVIDIA {name}", (9, 0), "580.65.06") for name in ("H100", "H200"))


def fake_tensorrt(cuda: FakeCuda, loads: bool = True) -> Any:
    """Return a TensorRT whose engine outputs the pixel sum of each image, 6 times, and its largest pixel."""

    class Context:
        def __init__(self) -> None:
            self.addresses: dict[str, int] = {}
            self.shape: tuple[int, ...] = ()

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert name == "faces"
            self.shape = tuple(shape)
            return shape[0] <= MAX_BATCH

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 77
            count = int(np.prod(self.shape))
            memory = memoryview((ctypes.c_uint8 * count).from_address(self.addresses["faces"]))
            arrays = sums_and_largest(np.frombuffer(memory, np.uint8).reshape(self.shape))
            for name, array in zip(("embedding", "norm"), arrays, strict=True):
                ctypes.memmove(self.addresses[name], array.ctypes.data, array.nbytes)
            cuda.calls.append(f"execute {self.shape[0]}")
            return cuda.refuses != "execute"

    class Engine:
        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            assert (name, profile) == ("faces", 0)
            return [(1, SIDE, SIDE, 3), (2, SIDE, SIDE, 3), (MAX_BATCH, SIDE, SIDE, 3)]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return {"embedding": (-1, NUMBERS), "norm": (-1,)}[name]

        def create_execution_context(self) -> Context | None:
            return None if cuda.refuses == "context" else Context()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            del logger
            if cuda.refuses == "runtime":
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            assert plan == b"plan"
            return Engine() if loads else None

    class Logger:
        WARNING = 2

        def __init__(self, level: int) -> None:
            assert level == self.WARNING

    return SimpleNamespace(__version__=TENSORRT, Logger=Logger, Runtime=Runtime)


def sums_and_largest(faces: Any) -> Any:
    sums = faces.reshape(len(faces), -1).sum(axis=1, dtype=np.float32)
    return np.repeat(sums[:, None], NUMBERS, axis=1), faces.reshape(len(faces), -1).max(axis=1).astype(np.float32)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a graph for which an engine was built on the only GPU of the driver."""
    monkeypatch.setattr("models.runtime.gpu.find_gpus", lambda: [H100])
    path = tmp_path / "embedder.fp16.onnx"
    path.write_bytes(b"graph")
    add_engine(tmp_path, H100)
    return path


def key_on(gpu: Gpu) -> EngineKey:
    return EngineKey(gpu, TENSORRT, sha256(b"graph").hexdigest(), "fp16")


def add_engine(root: Path, gpu: Gpu) -> Path:
    engine = key_on(gpu).path(root)
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"plan")
    write_record(engine, key_on(gpu))
    return engine


def session_on(cuda: FakeCuda, graph: Path, streams: int = 1, loads: bool = True) -> TensorRtSession:
    trt, outputs = fake_tensorrt(cuda, loads), ("embedding", "norm")
    return TensorRtSession(graph.parent, graph, outputs, "fp16", streams, 0, trt, cuda)


def faces(count: int) -> Any:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_a_batch_is_one_upload_one_run_and_one_download_per_output(graph: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, graph)
    cuda.calls.clear()
    images = faces(5)
    embedding, norm = session.run(images)
    np.testing.assert_array_equal(embedding, sums_and_largest(images)[0])
    np.testing.assert_array_equal(norm, sums_and_largest(images)[1])
    assert cuda.calls == [
        "device 0",
        f"copy HostToDevice {5 * SIDE * SIDE * 3}",
        "execute 5",
        f"copy DeviceToHost {5 * NUMBERS * 4}",
        f"copy DeviceToHost {5 * 4}",
        "cudaStreamSynchronize",
    ]


def test_a_batch_above_the_profile_is_split_and_later_runs_do_not_overwrite_outputs(graph: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, graph)
    images = faces(21)
    embedding, norm = session.run(images)
    session.run(faces(3))
    np.testing.assert_array_equal(embedding, sums_and_largest(images)[0])
    np.testing.assert_array_equal(norm, sums_and_largest(images)[1])
    assert [call for call in cuda.calls if "execute" in call] == [f"execute {count}" for count in (8, 8, 5, 3)]


def test_every_stream_has_separate_memory_and_all_memory_is_freed(graph: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, graph, streams=2)
    assert session.describe().streams == 2
    assert cuda.calls.count("cudaHostAlloc") == cuda.calls.count("cudaMalloc") == 2 * 3
    del session
    gc.collect()
    assert sorted(cuda.freed) == sorted(cuda.memory)
    assert cuda.calls.count("destroy 77") == 2


@pytest.mark.parametrize("refuses", ["cudaHostAlloc", "cudaMalloc", "cudaStreamCreateWithFlags", "context"])
def test_a_full_gpu_is_an_error_at_loading(refuses: str, graph: Path) -> None:
    with pytest.raises(EngineMissing, match="cannot run on this GPU"):
        session_on(FakeCuda(refuses), graph)


def test_a_tensorrt_that_does_not_start_is_an_error(graph: Path) -> None:
    with pytest.raises(EngineMissing, match="TensorRT does not start on this GPU"):
        session_on(FakeCuda("runtime"), graph)


@pytest.mark.parametrize("refuses", ["execute", "cudaStreamSynchronize", f"copy HostToDevice {SIDE * SIDE * 3}"])
def test_a_gpu_failure_fails_the_run_and_the_next_run_works(refuses: str, graph: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, graph)
    cuda.refuses = refuses
    with pytest.raises(InferenceFailed):
        session.run(faces(1))
    cuda.refuses = ""
    session.run(faces(1))


def test_refuses_engines_of_another_version_and_images_of_another_size(graph: Path) -> None:
    with pytest.raises(EngineMissing, match="rebuild it"):
        session_on(FakeCuda(), graph, loads=False)
    with pytest.raises(InferenceFailed, match="5 x 4"):
        session_on(FakeCuda(), graph).run(np.zeros((1, 5, 4, 3), np.uint8))


def test_a_missing_cuda_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineMissing, match="cuda-bindings"):
        load_cuda()


def test_tensorrt_is_opened_by_name_and_only_on_cuda(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(loading, "load_tensorrt", lambda: fake_tensorrt(cuda))
    monkeypatch.setattr("models.runtime.tensorrt_engine.load_cuda", lambda: cuda)
    options = RuntimeOptions("tensorrt", "cuda", "fp16", streams=2, engines=graph.parent)
    described = open_session(graph, ("embedding", "norm"), ((SIDE, SIDE),), options).describe()
    assert (described.engine, described.precision, described.streams) == ("tensorrt", "fp16", 2)
    for engine in ("tensorrt", "onnxruntime-tensorrt"):
        with pytest.raises(EngineMissing, match="CUDA only"):
            open_session(graph, ("embedding",), ((SIDE, SIDE),), RuntimeOptions(engine))


GRAPHS = {"fp32": "e.onnx", "fp16": "h.onnx"}
CARD = Card("m", "f", "a", "l", "0" * 64, 1, SIDE, SIDE, NUMBERS, "t", {}, {}, graphs=GRAPHS)
PROOF = {
    "measured": [
        {"precision": precision, "engine": "onnxruntime", "passed": passed}
        for precision, passed in (("fp32", True), ("fp16", True), ("int8", False), ("int8-cpu", True))
    ]
}


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt", "onnxruntime-tensorrt"])
def test_a_gpu_runs_what_was_proven_on_onnxruntime_in_float16_first(engine: Any) -> None:
    wanted = RuntimeOptions(engine, "cuda")
    half, single = replace(wanted, precision="fp16"), replace(wanted, precision="fp32")
    assert proven_runtimes(CARD, PROOF, wanted) == [("h.onnx", half, None), ("e.onnx", single, None)]
    fast = replace(wanted, precision="tf32")
    assert proven_runtimes(CARD, PROOF, fast) == [("e.onnx", fast, None)]  # compared with the limits of tf32
    without = {"measured": PROOF["measured"][:1]}
    assert proven_runtimes(CARD, without, wanted) == [("e.onnx", single, None)]
    with pytest.raises(ArtefactUnfit, match="int8"):  # the CPU variant does not cover int8 on a GPU
        proven_runtimes(CARD, PROOF, replace(wanted, precision="int8"))


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt", "onnxruntime-tensorrt"])
def test_the_row_that_allows_a_gpu_is_that_of_onnxruntime(engine: Any) -> None:
    rows: Any = (("tf32", "e.onnx", "fp32"), ("fp16", "h.onnx", "fp16"), ("bf16", "e.onnx", "bf16"))
    for precision, graph, kind in rows:
        described = SessionDescription(engine, "0", "CUDAExecutionProvider", precision, 0)
        assert row_of(CARD, graph, described) == (kind, "onnxruntime")


def test_an_engine_is_of_one_gpu_driver_tensorrt_and_graph(graph: Path) -> None:
    names = {
        str(key.path(Path()))
        for key in (
            key_on(H100),
            key_on(H200),
            key_on(replace(H100, driver="590.44")),
            replace(key_on(H100), tensorrt="10.17.0"),
            replace(key_on(H100), graph="1" * 64),
            replace(key_on(H100), precision="fp32"),
            replace(key_on(H100), precision="tf32"),
        )
    }
    assert len(names) == 7
    assert key_on(H200).directory == "nvidia-h200-sm90-trt10.16.1.11-driver580.65.06"
    graph.write_bytes(b"other weights")
    with pytest.raises(EngineMissing, match=r"no TensorRT engine was built .* vultus engine --gpu"):
        session_on(FakeCuda(), graph)


@pytest.mark.parametrize("damage", ["engine", "record", "other GPU", "no record"])
def test_an_engine_that_differs_from_its_record_is_not_loaded(damage: str, graph: Path) -> None:
    engine = key_on(H100).path(graph.parent)
    record = engine.with_suffix(".json")
    if damage == "engine":
        engine.write_bytes(b"plan of another")
    elif damage == "record":
        record.write_text("[" * 10**6)
    elif damage == "other GPU":
        record.write_text(record.read_text().replace("H100", "H200"))
    else:
        record.unlink()
    with pytest.raises(EngineMissing, match="differs from its record"):
        session_on(FakeCuda(), graph)


def test_a_graph_on_several_gpus_runs_on_the_ones_that_are_free(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("models.runtime.gpu.find_gpus", lambda: [H100, H200])
    monkeypatch.setattr(loading, "find_gpus", lambda: [H100, H200])
    monkeypatch.setattr(loading, "load_tensorrt", lambda: fake_tensorrt(cuda))
    monkeypatch.setattr("models.runtime.tensorrt_engine.load_cuda", lambda: cuda)
    add_engine(graph.parent, H200)
    options = RuntimeOptions("tensorrt", "cuda", "fp16", streams=2, engines=graph.parent)
    for gpus in ((0, 1), ()):
        pool = open_session(graph, ("embedding", "norm"), ((SIDE, SIDE),), replace(options, gpus=gpus))
        assert isinstance(pool, SessionPool)
        assert (len(pool.members), pool.describe().streams) == (2, 4)
    cuda.calls.clear()
    images = faces(3)
    for _ in range(4):
        np.testing.assert_array_equal(pool.run(images)[0], sums_and_largest(images)[0])
    assert [call for call in cuda.calls if "device" in call] == ["device 0", "device 1"] * 2
    with pytest.raises(EngineMissing, match="no GPU 2; it has 2, counted from 0"):
        open_session(graph, ("embedding", "norm"), ((SIDE, SIDE),), replace(options, gpus=(2,)))


def test_a_gpu_that_fails_is_compared_although_the_other_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = FakeSession(fake_embedding), FakeSession(lambda image: fake_embedding(255 - image))
    monkeypatch.setattr("models.serving.comparison.open_session", lambda *_: right)
    assert len(require_parity(SessionPool([right, right]), Path(), CARD, "embedder.onnx")) == 2
    with pytest.raises(ArtefactUnfit, match="not the same model"):
        require_parity(SessionPool([right, wrong]), Path(), CARD, "embedder.onnx")


def test_an_engine_with_different_outputs_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    same = FakeSession(fake_embedding)
    other = FakeSession(lambda image: fake_embedding(255 - image))
    monkeypatch.setattr("models.serving.comparison.open_session", lambda *_: same)
    require_parity(same, Path(), CARD, "embedder.onnx")
    with pytest.raises(ArtefactUnfit, match="not the same model"):
        require_parity(other, Path(), CARD, "embedder.onnx")


def check_options(providers: list[tuple[str, dict[str, str]]]) -> None:
    """Refuse what onnxruntime-gpu 1.31.1 refuses; `tests.gpu_wheels` checks the same options in its own code."""
    for provider, options in providers:
        for name, value in options.items():
            if provider == "TensorrtExecutionProvider":
                assert name in TENSORRT_OPTIONS, f"Invalid TensorRT EP option: {name}"
                assert not name.endswith("_enable") or value in ("True", "False"), f"{name} should be 'True' or 'False'"
            else:
                assert name in CUDA_OPTIONS, f"Unknown provider option: {name}"


class FakeOrtSession:
    """Returns the first pixels. Records how it was opened and the shapes that it ran."""

    opened: tuple[Any, ...] = ()

    def __init__(self, path: str, options: Any, providers: Any, enable_fallback: int) -> None:
        check_options(providers)
        FakeOrtSession.opened = (path, options, providers, enable_fallback)
        self.shapes: list[tuple[int, ...]] = []
        self._provider = providers[0][0]

    def get_providers(self) -> list[str]:
        return [self._provider]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="faces")]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        faces = feed["faces"]
        self.shapes.append(faces.shape)
        return [faces[:, 0, 0, :1].astype(np.float32) for _ in names]


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    monkeypatch.setattr("onnxruntime.InferenceSession", FakeOrtSession)
    monkeypatch.setattr("models.runtime.onnxruntime_engine.find_gpu", lambda _: H100)
    monkeypatch.setattr(
        "models.runtime.onnxruntime_engine.load_tensorrt", lambda: SimpleNamespace(__version__=TENSORRT)
    )
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")  # so that it is restored
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")


@pytest.mark.usefixtures("gpu_build")
def test_on_cuda_batches_are_padded_and_outputs_match_the_images(tiny: Path) -> None:  # noqa: F811
    session = load(tiny, device="cuda")
    images = np.arange(181, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    answers = session.run(images)
    np.testing.assert_array_equal(answers[0][:, 0], np.arange(181))
    assert [shape[0] for shape in session._session.shapes] == [128, 64]
    (_, options, ((provider, provider_options),), fallback) = FakeOrtSession.opened
    assert (provider, fallback) == ("CUDAExecutionProvider", 0)
    assert provider_options["arena_extend_strategy"] == "kSameAsRequested"
    assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


@pytest.mark.usefixtures("gpu_build")
def test_float32_is_computed_without_tf32_unless_tf32_is_asked_for(
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for precision, allowed in (("auto", "0"), ("fp32", "0"), ("tf32", "1"), ("fp16", "0")):
        described = load(tiny, device="cuda", precision=precision).describe()
        assert FakeOrtSession.opened[2][0][1]["use_tf32"] == allowed
        assert described.precision == ("fp32" if precision == "auto" else precision)
    tensorrt = {"engine": "onnxruntime-tensorrt", "device": "cuda", "engines": tmp_path}
    load(tiny, **tensorrt, precision="fp16")
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    with pytest.raises(PrecisionUnsupported, match="cannot choose tf32 for TensorRT"):
        load(tiny, **tensorrt, precision="tf32")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    load(tiny, **tensorrt, precision="fp32")
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    with pytest.raises(PrecisionUnsupported, match="NVIDIA_TF32_OVERRIDE=0 forbids tf32"):
        load(tiny, device="cuda", precision="tf32")
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(PrecisionUnsupported, match="tf32 is a precision of GPUs"):
            load(tiny, engine=engine, precision="tf32")


@pytest.mark.usefixtures("gpu_build")
def test_onnxruntime_stores_tensorrt_engines_in_the_given_directory(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    options = {"engine": "onnxruntime-tensorrt", "device": "cuda", "precision": "fp16", "engines": tmp_path / "engines"}
    described = load(tiny, **options).describe()
    assert (described.engine, described.provider) == ("onnxruntime-tensorrt", "TensorrtExecutionProvider")
    (_, _, ((_, provider_options), (second, _)), _) = FakeOrtSession.opened
    assert second == "CUDAExecutionProvider"  # for layers that TensorRT does not support
    directory = Path(provider_options["trt_engine_cache_path"])
    assert directory.is_dir()
    digest = sha256(tiny.read_bytes()).hexdigest()[:24]
    assert directory.name == f"{digest}.fp16.1x8x8x3-32x8x8x3-128x8x8x3"
    assert directory.parent.parent == tmp_path / "engines" / key_on(H100).directory
    assert provider_options["trt_timing_cache_path"] == str(directory.parent)
    assert (provider_options["trt_fp16_enable"], provider_options["trt_int8_enable"]) == ("True", "False")
    assert provider_options["trt_profile_opt_shapes"] == "faces:32x8x8x3"
    assert provider_options["trt_profile_max_shapes"] == "faces:128x8x8x3"


@pytest.mark.usefixtures("gpu_build")
def test_the_profile_of_a_detector_spans_its_image_sizes(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    sizes = ((256, 256), (640, 640), (384, 640), (640, 384))
    options = RuntimeOptions("onnxruntime-tensorrt", "cuda", engines=tmp_path)
    open_session(tiny, ("scores",), sizes, options)
    provider_options = FakeOrtSession.opened[2][0][1]
    shapes = [provider_options[f"trt_profile_{end}_shapes"] for end in ("min", "opt", "max")]
    assert shapes == ["images:1x256x256x3", "images:16x640x384x3", "images:16x640x640x3"]


def test_crops_run_in_batches_of_128_and_photos_in_batches_of_16() -> None:
    assert gpu_buckets(((112, 112),))[0] == 128
    assert gpu_buckets(((128, 128), (640, 640)))[0] == 16


# Option names found in the shared objects of onnxruntime-gpu 1.31.1.
TENSORRT_OPTIONS = {
    "device_id",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_fp16_enable",
    "trt_int8_enable",
    "trt_max_workspace_size",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
}
CUDA_OPTIONS = {"arena_extend_strategy", "cudnn_conv_algo_search", "device_id", "use_tf32"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            r'libcublasLt\.so\.13, which the package nvidia-cublas contains, is missing: pip install "onnx',
        ),
        ("libcudnn.so.9: cannot open shared object file", "the package nvidia-cudnn-cu13 contains"),
        ("libcuda.so.1: cannot open shared object file", r"libcuda\.so\.1 is missing: install the NVIDIA driver"),
        ("libnvinfer.so.10: cannot open shared object file", r"is missing: pip install tensorrt-cu13==10\.16\.1\.11"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(error: str, sentence: str) -> None:
    assert re.search(sentence, explain(f"Failed to load library: {error}", "1.31.1") or "")
    assert explain("undefined symbol: cudnnCreate", "1.31.1") is None


@pytest.mark.parametrize(
    ("installed", "named"),
    [
        ({"tensorrt": "11.4.0.106"}, "tensorrt 11.4.0.106 is installed"),
        ({"tensorrt-cu13": TENSORRT, "tensorrt-cu12": "10.0.1"}, "tensorrt-cu12 10.0.1 is installed"),
        (
            {"tensorrt-cu13-bindings": TENSORRT, "tensorrt-cu13-libs": "11.4.0"},
            "tensorrt-cu13-libs 11.4.0 is installed",
        ),
    ],
)
def test_a_mixture_of_tensorrt_versions_is_refused(
    installed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.runtime.gpu._installed", installed.get)
    with pytest.raises(EngineConflict, match=rf"{named}.*require TensorRT 10\.16; uninstall .*tensorrt-cu13==10\.16"):
        load_tensorrt()


def fake_driver(names: list[str]) -> Any:
    """Return a driver with GPUs of capability 9.0 and CUDA 13.0, which writes as `cuda.h` says."""

    def write(target: Any, value: int) -> int:
        target._obj.value = value
        return 0

    def name(buffer: Any, size: int, device: Any) -> int:
        assert size == 256
        buffer.value = names[device.value].encode()
        return 0

    return SimpleNamespace(
        cuInit=lambda _: 0,
        cuDeviceGetCount=lambda count: write(count, len(names)),
        cuDriverGetVersion=lambda version: write(version, 13000),
        cuDeviceGet=lambda device, index: write(device, index),
        cuDeviceGetName=name,
        cuDeviceGetAttribute=lambda target, attribute, _: write(target, {75: 9, 76: 0}[attribute]),
    )


def test_every_gpu_of_the_driver_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: fake_driver(["NVIDIA H100", "NVIDIA H200"]))
    monkeypatch.setattr("models.runtime.gpu._DRIVER_VERSION", tmp_path / "version")
    assert [(gpu.name, gpu.driver) for gpu in find_gpus()] == [("NVIDIA H100", "cuda13.0"), ("NVIDIA H200", "cuda13.0")]
    (tmp_path / "version").write_text("580.65.06\n")
    assert find_gpus() == [H100, H200]
    monkeypatch.setattr("ctypes.CDLL", lambda _: fake_driver([]))
    with pytest.raises(EngineMissing, match="finds no GPU"):
        find_gpus()
