"""A pack loaded as on a GPU: the GPU is replaced by the CPU, so that the outputs are real and the comparisons run."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import ArtefactUnfit, EngineMissing
from models.packs import PackStore, find_manifest
from models.runtime import RuntimeOptions, Session, SessionDescription, open_session
from models.runtime.pool import SessionPool
from models.runtime.session import Arrays, Images
from models.serving import load, recognizer
from models.serving.load import Sharing, load_models

MANIFEST = find_manifest("opencv-zoo")


class OnGpu:
    """A session on the CPU that describes itself as one on a GPU, and may change its outputs."""

    def __init__(self, session: Session, engine: Any, change: float) -> None:
        self.session, self.engine, self.change = session, engine, change
        self.batches: list[int] = []

    def run(self, images: Images, deadline: Any = None) -> Arrays:
        self.batches.append(len(images))
        return tuple(np.asarray(array + self.change, np.float32) for array in self.session.run(images, deadline))

    def describe(self) -> SessionDescription:
        return replace(self.session.describe(), engine=self.engine, threads=0, streams=1)


Opened = list[tuple[str, str]]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """Return a function that replaces the GPU; `changed` gives the change of outputs by (graph, engine)."""

    def replace_gpu(changed: dict[tuple[str, str], float] | None = None, absent: str = "") -> Opened:
        opened: Opened = []

        def open_on_cpu(graph: Path, outputs: Any, sizes: Any, options: RuntimeOptions, **_: Any) -> Session:
            assert options.device == "cuda"
            key = graph.stem, "onnxruntime" if options.engine == "auto" else options.engine
            opened.append(key)
            if key[1] == absent:
                raise EngineMissing("TensorRT is not installed")
            plain = open_session(graph, outputs, sizes, RuntimeOptions("onnxruntime", precision="fp32"))
            members = [OnGpu(plain, key[1], (changed or {}).get(key, 0.0)) for _ in options.gpus]
            return members[0] if len(members) == 1 else SessionPool(members)

        for module in (load, recognizer):
            monkeypatch.setattr(module, "open_session", open_on_cpu)
        return opened

    return replace_gpu


def load_on(store: PackStore, options: RuntimeOptions, comparisons: Path | None = None, **others: Any) -> Any:
    return load_models(store, MANIFEST, options, comparisons=comparisons, **others)


def test_both_graphs_are_compared_once_and_the_measures_are_kept(
    gpu: Callable[..., Opened], store: PackStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu()
    load_on(store, RuntimeOptions(device="cuda"), tmp_path)
    rows = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    measured = {row["key"]["graph"]: row["measured"] for row in rows}
    assert measured["embedder.onnx"][0]["worst_cosine"] == pytest.approx(1)
    assert [row["worst"] for row in measured["detector.onnx"]] == [0, 0]
    monkeypatch.setattr(load, "require_detector_parity", lambda *_: pytest.fail("compared again"))
    load_on(store, RuntimeOptions(device="cuda"), tmp_path)


def test_a_detector_that_differs_on_tensorrt_runs_on_cuda(
    gpu: Callable[..., Opened], store: PackStore, caplog: pytest.LogCaptureFixture
) -> None:
    opened = gpu({("detector", "onnxruntime-tensorrt"): 0.01})
    with caplog.at_level(logging.WARNING, "vultus"):
        load_on(store, RuntimeOptions("onnxruntime-tensorrt", "cuda"))
    assert [engine for graph, engine in opened if graph == "detector"] == ["onnxruntime-tensorrt", "onnxruntime"]
    assert "runs on CUDA without TensorRT: the detector on onnxruntime-tensorrt is not the same model" in caplog.text


def test_a_recognizer_in_tf32_leaves_the_detector_on_cuda(gpu: Callable[..., Opened], store: PackStore) -> None:
    """The detector on TensorRT would forbid TF32 in the whole process."""
    opened = gpu()
    load_on(store, RuntimeOptions("tensorrt", "cuda", "tf32"))
    assert ("detector", "onnxruntime") in opened
    assert ("detector", "onnxruntime-tensorrt") not in opened


def test_a_detector_that_differs_on_cuda_is_refused(gpu: Callable[..., Opened], store: PackStore) -> None:
    for change in (0.01, np.nan):
        gpu({("detector", "onnxruntime"): change})
        with pytest.raises(ArtefactUnfit, match="the detector on onnxruntime is not the same model on this GPU"):
            load_on(store, RuntimeOptions(device="cuda"))


def test_a_recognizer_that_differs_is_refused(gpu: Callable[..., Opened], store: PackStore) -> None:
    gpu({("embedder", "onnxruntime"): 0.01})
    with pytest.raises(ArtefactUnfit, match="not the same model on this GPU"):
        load_on(store, RuntimeOptions(device="cuda"))


def test_requests_run_on_every_gpu_and_every_batch_size_is_warm(gpu: Callable[..., Opened], store: PackStore) -> None:
    gpu()
    models = load_on(store, RuntimeOptions(device="cuda", gpus=(0, 1), streams=2), sharing=Sharing(2, largest=4))
    try:
        recognizer_runs, detector_runs = models.shared
        assert (recognizer_runs._batching.workers, recognizer_runs._batching.largest) == (4, 4)
        assert (detector_runs._batching.workers, detector_runs._batching.largest) == (4, 16)
        for member in recognizer_runs._session.members:
            assert {1, 2, 4} <= set(member.batches)
        models.warm_up.wait()
        assert all(len(member.batches) >= 10 for member in detector_runs._session.members)
    finally:
        models.close()
