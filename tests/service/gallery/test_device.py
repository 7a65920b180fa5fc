"""GPU copies with a fake of FAISS' GPU functions: what is copied, when, and that the hits are the same."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest

from service.gallery.index.base import Hits
from service.gallery.index.segmented import SegmentedIndex
from service.gallery.records import Block
from tests.service.gallery.conftest import DIMENSIONS, people

VECTORS = people(100, 1)[:, 0]


class Recorded:
    """A fake GPU that records copies; its indices cannot remove rows, like real ones."""

    def __init__(self) -> None:
        self.copies: list[tuple[int, bool]] = []
        self.room = 10  # copies

    def index_cpu_to_gpu(self, _: Any, device: int, index: Any, options: Any) -> Any:
        assert device == 0
        assert isinstance(index, faiss.IndexFlatIP)
        if not self.room:
            raise RuntimeError("Error: 'err == cudaSuccess' failed: Failed to cudaMalloc")
        self.room -= 1
        self.copies.append((index.ntotal, options.useFloat16))
        frozen = faiss.clone_index(index)

        class OnGpu:
            def search(self, probes: Any, depth: int) -> Any:
                assert depth <= 2048, "GPU index only supports min/max-K selection up to 2048"
                return frozen.search(probes, depth)

        return OnGpu()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", type("Options", (), {"useFloat16": False}), raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", recorded.index_cpu_to_gpu, raising=False)
    return recorded


@pytest.mark.parametrize("encoding", ["flat", "flat-fp16"])
def test_full_segments_are_copied_once_until_they_change(gpu: Recorded, encoding: Any) -> None:
    with ThreadPoolExecutor(2) as threads:
        index = SegmentedIndex(encoding, DIMENSIONS, threads, segment_rows=40)
        index.add(Block(np.arange(1, 101), np.arange(1, 101), VECTORS))

        def found() -> Hits:
            return index.search(VECTORS, 1)

        np.testing.assert_array_equal(found().template_keys[:, 0], np.arange(1, 101))
        found()
        assert gpu.copies == [(40, encoding == "flat-fp16")] * 2  # the third segment is not full
        index.remove(np.array([5]))
        assert 5 not in found().template_keys
        assert len(gpu.copies) == 2  # the changed segment is no longer full, and the other did not change


def test_an_encoding_without_a_gpu_index_stays_on_the_host(gpu: Recorded) -> None:
    with ThreadPoolExecutor(2) as threads:
        index = SegmentedIndex("sq8", DIMENSIONS, threads, VECTORS, segment_rows=40)
        index.add(Block(np.arange(1, 101), np.arange(1, 101), VECTORS))
        np.testing.assert_array_equal(index.search(VECTORS, 1).template_keys[:, 0], np.arange(1, 101))
        assert gpu.copies == []


def test_a_search_too_deep_for_a_gpu_runs_on_the_host(gpu: Recorded) -> None:
    vectors = people(2100, 1)[:, 0]
    with ThreadPoolExecutor(2) as threads:
        index = SegmentedIndex("flat", DIMENSIONS, threads, segment_rows=len(vectors))
        index.add(Block(np.arange(1, 2101), np.arange(1, 2101), vectors))
        assert index.search(vectors[:2], 2100).template_keys.shape == (2, 2100)
        assert len(gpu.copies) == 1


def test_segments_that_do_not_fit_on_the_gpu_are_searched_on_the_host(
    gpu: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.room = 1
    with ThreadPoolExecutor(1) as threads:
        index = SegmentedIndex("flat", DIMENSIONS, threads, segment_rows=25)
        index.add(Block(np.arange(1, 101), np.arange(1, 101), VECTORS))
        for _ in range(2):
            np.testing.assert_array_equal(index.search(VECTORS, 1).template_keys[:, 0], np.arange(1, 101))
    assert len(gpu.copies) == 1
    assert caplog.text.count("no more of the gallery is copied to the GPU") == 1
