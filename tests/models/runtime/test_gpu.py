"""GPU sessions on fakes that record the calls. The tests check the calls and run without a GPU.

The fake of CUDA has separate device memory, so that arrays must be copied there and back. The fakes have the names of
the package `cuda-bindings` and of TensorRT 10.16 and 11.4; any other name is an AttributeError.
"""

import ctypes
import gc
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.artefact.card import Card
from models.errors import ArtefactUnfit, EngineMissing, InferenceFailed
from models.runtime import RuntimeOptions, loading, open_session
from models.runtime.fake import FakeSession, fake_embedding
from models.runtime.gpu import Gpu
from models.runtime.tensorrt_engine import TensorRtSession, load_cuda
from models.serving.choice import engine_of, proven_runtimes
from models.serving.comparison import require_parity
from tests.models.runtime.test_engines import load, tiny  # noqa: F401

SIDE, NUMBERS, MAX_BATCH = 4, 6, 8


class FakeCuda:
    """Separate host and device memory. Every call is recorded; `refuses` names a call that fails."""

    cudaHostAllocDefault = 0

    class cudaMemcpyKind(IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[str] = []
        self.refuses = refuses
        self.memory: dict[int, Any] = {}
        self.freed: list[int] = []

    def _answer(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(name)
        return (2, *(None for _ in values)) if name == self.refuses else (0, *values)

    def _allocate(self, name: str, size: int) -> tuple[Any, ...]:
        block = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(block)
        self.memory[address] = block
        return self._answer(name, address)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaHostAllocDefault
        return self._allocate("cudaHostAlloc", size)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMalloc", size)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == 1  # cudaStreamNonBlocking
        return self._answer("cudaStreamCreateWithFlags", 77)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        assert isinstance(kind, self.cudaMemcpyKind)
        assert size <= min(len(self.memory[target]), len(self.memory[source]))
        ctypes.memmove(target, source, size)
        return self._answer(f"copy {kind.name[10:]} {size}")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        return self._answer("cudaStreamSynchronize")

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return self._answer(f"destroy {stream}")

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self.freed.append(address)
        return self._answer("cudaFree")

    cudaFreeHost = cudaFree


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

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            assert plan == b"plan"
            return Engine() if loads else None

    class Logger:
        WARNING = 2

        def __init__(self, level: int) -> None:
            assert level == self.WARNING

    return SimpleNamespace(__version__="11.4.0.106", Logger=Logger, Runtime=Runtime)


def sums_and_largest(faces: Any) -> Any:
    sums = faces.reshape(len(faces), -1).sum(axis=1, dtype=np.float32)
    return np.repeat(sums[:, None], NUMBERS, axis=1), faces.reshape(len(faces), -1).max(axis=1).astype(np.float32)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "embedder.fp16.sm90-trt11.4.0.106.engine"
    path.write_bytes(b"plan")
    return path


def session_on(cuda: FakeCuda, plan: Path, streams: int = 1, loads: bool = True) -> TensorRtSession:
    return TensorRtSession(plan, ("embedding", "norm"), "fp16", streams, fake_tensorrt(cuda, loads), cuda)


def faces(count: int) -> Any:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_a_batch_is_one_upload_one_run_and_one_download_per_output(plan: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, plan)
    cuda.calls.clear()
    images = faces(5)
    embedding, norm = session.run(images)
    np.testing.assert_array_equal(embedding, sums_and_largest(images)[0])
    np.testing.assert_array_equal(norm, sums_and_largest(images)[1])
    assert cuda.calls == [
        f"copy HostToDevice {5 * SIDE * SIDE * 3}",
        "execute 5",
        f"copy DeviceToHost {5 * NUMBERS * 4}",
        f"copy DeviceToHost {5 * 4}",
        "cudaStreamSynchronize",
    ]


def test_a_batch_above_the_profile_is_split_and_later_runs_do_not_overwrite_outputs(plan: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, plan)
    images = faces(21)
    embedding, norm = session.run(images)
    session.run(faces(3))
    np.testing.assert_array_equal(embedding, sums_and_largest(images)[0])
    np.testing.assert_array_equal(norm, sums_and_largest(images)[1])
    assert [call for call in cuda.calls if "execute" in call] == [f"execute {count}" for count in (8, 8, 5, 3)]


def test_every_stream_has_separate_memory_and_all_memory_is_freed(plan: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, plan, streams=2)
    assert session.describe().streams == 2
    assert cuda.calls.count("cudaHostAlloc") == cuda.calls.count("cudaMalloc") == 2 * 3
    del session
    gc.collect()
    assert sorted(cuda.freed) == sorted(cuda.memory)
    assert cuda.calls.count("destroy 77") == 2


@pytest.mark.parametrize("refuses", ["cudaHostAlloc", "cudaMalloc", "cudaStreamCreateWithFlags", "context"])
def test_a_full_gpu_is_an_error_at_loading(refuses: str, plan: Path) -> None:
    with pytest.raises(EngineMissing, match="cannot run on this GPU"):
        session_on(FakeCuda(refuses), plan)


@pytest.mark.parametrize("refuses", ["execute", "cudaStreamSynchronize", f"copy HostToDevice {SIDE * SIDE * 3}"])
def test_a_gpu_failure_fails_the_run_and_the_next_run_works(refuses: str, plan: Path) -> None:
    cuda = FakeCuda()
    session = session_on(cuda, plan)
    cuda.refuses = refuses
    with pytest.raises(InferenceFailed):
        session.run(faces(1))
    cuda.refuses = ""
    session.run(faces(1))


def test_refuses_engines_of_another_version_and_images_of_another_size(plan: Path) -> None:
    with pytest.raises(EngineMissing, match="rebuild it"):
        session_on(FakeCuda(), plan, loads=False)
    with pytest.raises(InferenceFailed, match="5 x 4"):
        session_on(FakeCuda(), plan).run(np.zeros((1, 5, 4, 3), np.uint8))


def test_a_missing_cuda_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineMissing, match="cuda-bindings"):
        load_cuda()


def test_tensorrt_is_opened_by_name_and_only_on_cuda(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(loading, "load_tensorrt", lambda: fake_tensorrt(cuda))
    monkeypatch.setattr("models.runtime.tensorrt_engine.load_cuda", lambda: cuda)
    options = RuntimeOptions("tensorrt", "cuda", "fp16", streams=2)
    described = open_session(plan, ("embedding", "norm"), ((SIDE, SIDE),), options).describe()
    assert (described.engine, described.precision, described.streams) == ("tensorrt", "fp16", 2)
    for engine in ("tensorrt", "onnxruntime-tensorrt"):
        with pytest.raises(EngineMissing, match="CUDA only"):
            open_session(plan, ("embedding",), ((SIDE, SIDE),), RuntimeOptions(engine))


GRAPHS = {"fp32": "e.onnx", "fp16": "h.onnx"}
CARD = Card("m", "f", "a", "l", "0" * 64, 1, SIDE, SIDE, NUMBERS, "t", {}, {}, graphs=GRAPHS)
PROOF = {
    "measured": [
        {"precision": precision, "engine": "onnxruntime", "passed": passed}
        for precision, passed in (("fp32", True), ("fp16", True), ("int8", False), ("int8-cpu", True))
    ]
}


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime-tensorrt"])
def test_tensorrt_runs_what_was_proven_on_onnxruntime(engine: Any) -> None:
    wanted = RuntimeOptions(engine, "cuda")
    half, single = replace(wanted, precision="fp16"), replace(wanted, precision="fp32")
    assert proven_runtimes(CARD, PROOF, wanted) == [("h.onnx", half, None), ("e.onnx", single, None)]
    without = {"measured": PROOF["measured"][:1]}
    assert proven_runtimes(CARD, without, wanted) == [("e.onnx", single, None)]
    with pytest.raises(ArtefactUnfit, match="int8"):  # the CPU variant does not cover int8 on a GPU
        proven_runtimes(CARD, PROOF, replace(wanted, precision="int8"))


def test_selects_the_engine_of_this_gpu_and_version(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.serving.choice.find_gpu", lambda: Gpu("NVIDIA H100", (9, 0)))
    monkeypatch.setattr("models.serving.choice.load_tensorrt", lambda: SimpleNamespace(__version__="11.4.0.106"))
    graph = "embedder.fp16.onnx"
    listed = replace(CARD, files={plan.name: "0" * 64}, engines={plan.name: {"graph": graph}})
    assert engine_of(plan.parent, listed, graph) == plan
    for card in (CARD, replace(listed, files={}), replace(listed, engines={plan.name: {"graph": "embedder.onnx"}})):
        with pytest.raises(EngineMissing, match=r"does not list embedder\.fp16\.sm90-trt11\.4\.0\.106\.engine"):
            engine_of(plan.parent, card, graph)
    monkeypatch.setattr("models.serving.choice.find_gpu", lambda: Gpu("NVIDIA L4", (8, 9)))
    with pytest.raises(EngineMissing, match=r"no embedder\.fp16\.sm89-trt11\.4\.0\.106\.engine; build it"):
        engine_of(plan.parent, listed, graph)


def test_an_engine_with_different_outputs_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    same = FakeSession(fake_embedding)
    other = FakeSession(lambda image: fake_embedding(255 - image))
    monkeypatch.setattr("models.serving.comparison.open_session", lambda *_: same)
    require_parity(same, Path(), CARD, "embedder.onnx")
    with pytest.raises(ArtefactUnfit, match="not the same model"):
        require_parity(other, Path(), CARD, "embedder.onnx")


class FakeOrtSession:
    """Returns the first pixels. Records how it was opened and the shapes that it ran."""

    opened: tuple[Any, ...] = ()

    def __init__(self, path: str, options: Any, providers: Any, enable_fallback: int) -> None:
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


@pytest.mark.usefixtures("gpu_build")
def test_on_cuda_batches_are_padded_and_outputs_match_the_images(tiny: Path) -> None:  # noqa: F811
    session = load(tiny, device="cuda")
    images = np.arange(37, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    answers = session.run(images)
    np.testing.assert_array_equal(answers[0][:, 0], np.arange(37))
    assert [shape[0] for shape in session._session.shapes] == [32, 8]
    (_, options, ((provider, provider_options),), fallback) = FakeOrtSession.opened
    assert (provider, fallback) == ("CUDAExecutionProvider", 0)
    assert provider_options["arena_extend_strategy"] == "kSameAsRequested"
    assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


@pytest.mark.usefixtures("gpu_build")
def test_onnxruntime_stores_tensorrt_engines_in_the_given_directory(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    options = {"engine": "onnxruntime-tensorrt", "device": "cuda", "precision": "fp16", "engines": tmp_path / "engines"}
    described = load(tiny, **options).describe()
    assert (described.engine, described.provider) == ("onnxruntime-tensorrt", "TensorrtExecutionProvider")
    (_, _, ((_, provider_options),), _) = FakeOrtSession.opened
    assert set(provider_options) <= TENSORRT_OPTIONS
    assert provider_options["trt_engine_cache_path"] == str(tmp_path / "engines")
    assert (tmp_path / "engines").is_dir()
    assert (provider_options["trt_fp16_enable"], provider_options["trt_int8_enable"]) == ("1", "0")
    assert provider_options["trt_profile_max_shapes"] == "faces:32x8x8x3"


# Option names found in the shared object of onnxruntime-gpu 1.31.1.
TENSORRT_OPTIONS = {
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
