"""Engines are built for a GPU, a driver and a TensorRT, with calls of TensorRT 10.16.

TensorRT cannot be loaded without a GPU's libraries. The fake below has names of its bindings and no others, so any
other call raises AttributeError; `tests.gpu_wheels` compares them with the real bindings. The tests check the sequence
of calls, not that the calls work.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from models.artefact.card import CALIBRATION, CARD, PROOF, Card, read_card, write_card
from models.artefact.digests import directory_digests, file_digest
from models.artefact.integrity import open_artefact
from models.errors import EngineBuildFailed, EngineMissing
from models.export.engines import build_engines
from models.export.tensorrt import Batches, build_engine
from models.runtime.engine_files import EngineKey, verified_engine
from models.runtime.gpu import TENSORRT, Gpu, find_gpu, load_tensorrt
from models.types import no_progress

L4 = Gpu("NVIDIA L4", (8, 9), "580.65.06")
H100 = Gpu("NVIDIA H100", (9, 0), "580.65.06")

Calls = list[tuple[Any, ...]]


class FakeTensorrt:
    """A fake of TensorRT that records its calls; the step named by `refuses` fails."""

    __version__ = TENSORRT

    def __init__(self, refuses: str = "") -> None:
        self.calls: Calls = []
        self.refuses = refuses
        fake, record = self, self.calls.append

        class Logger:
            WARNING = 2

            def __init__(self, level: int) -> None:
                record(("Logger", level))

        class IProgressMonitor:
            pass

        class Cache:
            def __init__(self, content: bytes) -> None:
                self.content = content

            def serialize(self) -> bytes:
                return self.content + b"timed "

        class Config:
            __slots__ = ("_cache", "builder_optimization_level", "progress_monitor")  # any other name is refused
            _cache: Cache
            builder_optimization_level: int
            progress_monitor: Any

            def set_memory_pool_limit(self, pool: str, size: int) -> None:
                record(("set_memory_pool_limit", pool, size))

            def set_flag(self, flag: str) -> None:
                record(("set_flag", flag))

            def clear_flag(self, flag: str) -> None:
                record(("clear_flag", flag))

            def add_optimization_profile(self, profile: "Profile") -> int:
                record(("add_optimization_profile", type(profile).__name__))
                return -1 if fake.refuses == "profile" else 0

            def create_timing_cache(self, content: bytes) -> Cache:
                record(("create_timing_cache", content))
                return Cache(content)

            def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
                record(("set_timing_cache", ignore_mismatch))
                self._cache = cache
                return cache.content != b"of another GPU"

            def get_timing_cache(self) -> Cache:
                return self._cache

        class Profile:
            def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
                record(("set_shape", name, *shapes))

        class Builder:
            def __init__(self, logger: Logger) -> None:
                record(("Builder", type(logger).__name__))
                if fake.refuses == "start":
                    raise TypeError("pybind11::init(): factory function returned nullptr")

            def create_network(self, flags: int) -> str:
                record(("create_network", flags))
                return "network"

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Profile:
                return Profile()

            def build_serialized_network(self, network: str, config: Config) -> bytes | None:
                record(("build_serialized_network", network, config.builder_optimization_level))
                monitor = config.progress_monitor
                monitor.phase_start("timing", None, 2)
                assert monitor.step_complete("timing", 0)
                monitor.phase_finish("timing")
                return None if fake.refuses == "build" else b"plan"

        class OnnxParser:
            num_errors = 1

            def __init__(self, network: str, logger: Logger) -> None:
                record(("OnnxParser", network, type(logger).__name__))

            def parse_from_file(self, path: str) -> bool:
                record(("parse_from_file", Path(path).name))
                return fake.refuses != "parse"

            def get_error(self, index: int) -> str:
                return f"node {index} is not supported"

        self.Logger, self.Builder, self.OnnxParser, self.IProgressMonitor = (
            Logger,
            Builder,
            OnnxParser,
            IProgressMonitor,
        )
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "embedder.fp16.onnx").write_bytes(b"graph")
    return tmp_path / "embedder.fp16.onnx"


def test_the_build_is_strongly_typed_bounded_profiled_and_timed_once(graph: Path, tmp_path: Path) -> None:
    trt, shown = FakeTensorrt(), Calls()
    for _ in range(2):
        build_engine(
            trt, graph, (112, 96), tmp_path / "a.engine", tmp_path / "c/a.timing", lambda *step: shown.append(step)
        )
    assert trt.calls[: len(trt.calls) // 2] == [
        ("Logger", 2),
        ("Builder", "Logger"),
        ("create_network", 1 << 1),
        ("OnnxParser", "network", "Logger"),
        ("parse_from_file", "embedder.fp16.onnx"),
        ("set_memory_pool_limit", "workspace", 2 << 30),
        ("clear_flag", "TF32"),
        ("set_shape", "faces", (1, 112, 96, 3), (32, 112, 96, 3), (128, 112, 96, 3)),
        ("add_optimization_profile", "Profile"),
        ("create_timing_cache", b""),
        ("set_timing_cache", False),
        ("build_serialized_network", "network", 3),
    ]
    assert ("create_timing_cache", b"timed ") in trt.calls
    assert (tmp_path / "a.engine").read_bytes() == b"plan"
    assert shown[:3] == [("timing", 0, 2), ("timing", 1, 2), ("timing", 2, 2)]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("start", "does not start"),
        ("parse", "node 0 is not supported"),
        ("profile", "1 to 64 faces"),
        ("build", "its log"),
    ],
)
def test_a_build_that_fails_writes_nothing(refuses: str, said: str, graph: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildFailed, match=said):
        build_engine(
            FakeTensorrt(refuses), graph, (112, 112), tmp_path / "a.engine", tmp_path / "t", print, Batches(1, 16, 64)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [graph.name]


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    directory = tmp_path / "artefact"
    directory.mkdir()
    graphs = {"fp32": "embedder.onnx", "int8": "embedder.int8.onnx", "int8-cpu": "embedder.int8-cpu.onnx"}
    for name in graphs.values():
        (directory / name).write_bytes(name.encode())
    (directory / PROOF).write_text(json.dumps({"passed": True, "measured": []}))
    files = directory_digests(directory, CARD)
    card = Card("a", "b", "c", "d", "e" * 64, 2, 112, 112, 512, "arcface-112", {"color": "rgb"}, files, graphs=graphs)
    write_card(directory, card)
    return directory


def test_timings_that_tensorrt_refuses_are_measured_again(graph: Path, tmp_path: Path) -> None:
    timings = tmp_path / "a.timing"
    timings.write_bytes(b"of another GPU")
    trt = FakeTensorrt()
    build_engine(trt, graph, (112, 112), tmp_path / "a.engine", timings, no_progress)
    assert [call for call in trt.calls if call[0] == "create_timing_cache"] == [
        ("create_timing_cache", b"of another GPU"),
        ("create_timing_cache", b""),
    ]
    assert timings.read_bytes() == b"timed "


def test_engines_are_kept_beside_the_artefact_with_their_records(artefact: Path, tmp_path: Path) -> None:
    before, root, trt = read_card(artefact, Card), tmp_path / "engines", FakeTensorrt()
    steps = list[str]()
    report = lambda step, *_: steps.append(step)  # noqa: E731
    built = build_engines(artefact, trt, L4, root, report, Batches(common=64), tf32=True)
    assert [step for step in steps if step.startswith("building")] == [
        "building embedder.onnx in fp32",
        "building embedder.int8.onnx in int8",
        "building embedder.onnx in tf32",
    ]
    assert [call for call in trt.calls if call[0] in ("set_flag", "clear_flag")] == [
        ("clear_flag", "TF32"),
        ("clear_flag", "TF32"),
        ("set_flag", "TF32"),
    ]
    assert ("set_shape", "faces", *((count, 112, 112, 3) for count in (1, 64, 128))) in trt.calls
    assert open_artefact(artefact)[0] == before
    for path, (graph, precision) in zip(
        built, (("embedder.onnx", "fp32"), ("embedder.int8.onnx", "int8"), ("embedder.onnx", "tf32")), strict=True
    ):
        key = EngineKey(L4, TENSORRT, file_digest(artefact / graph), precision)  # type: ignore[arg-type]
        assert verified_engine(root, key) == path
    build_engines(artefact, FakeTensorrt(), H100, root, no_progress)
    assert sorted(path.name for path in root.iterdir()) == [
        "nvidia-h100-sm90-trt10.16.1.11-driver580.65.06",
        "nvidia-l4-sm89-trt10.16.1.11-driver580.65.06",
    ]


def test_a_calibration_that_an_earlier_program_listed_may_be_replaced(artefact: Path) -> None:
    (artefact / CALIBRATION).write_text('{"version": 3}')
    card = read_card(artefact, Card)
    write_card(artefact, replace(card, files={**card.files, CALIBRATION: "0" * 64}))
    open_artefact(artefact)


@pytest.fixture
def broken_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvonnxparser.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tensorrt", None)


def test_a_missing_tensorrt_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineMissing, match="TensorRT is not installed"):
        load_tensorrt()


@pytest.mark.usefixtures("broken_tensorrt")
def test_a_missing_library_of_tensorrt_is_named() -> None:
    with pytest.raises(EngineMissing, match="libnvonnxparser"):
        load_tensorrt()


def test_a_missing_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.runtime.gpu._DRIVER", "libabsent.so.1")
    with pytest.raises(EngineMissing, match="no NVIDIA driver"):
        find_gpu()


def test_a_driver_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    no_device = 100
    driver = SimpleNamespace(cuInit=lambda _: no_device)
    monkeypatch.setattr("ctypes.CDLL", lambda _: driver)
    with pytest.raises(EngineMissing, match="CUDA error 100"):
        find_gpu()


def test_the_module_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = TENSORRT  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert load_tensorrt() is module
