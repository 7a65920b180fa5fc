"""FAISS behind a few calls: how vectors are held and compared.

The wheels ship `distance_compute_blas_threshold` = 128000, so that batches of ordinary size never reach BLAS and take
six times as long; four probes are where BLAS begins to pay. FAISS' own threads are switched off: one probe gains
nothing from them, and requests would fight over cores. The segments of an index are searched side by side instead.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

Encoding = Literal["flat", "flat-fp16", "sq8"]

_BLAS_FROM_PROBES = 4

faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM_PROBES

_QUANTIZERS = {
    "flat-fp16": faiss.ScalarQuantizer.QT_fp16,
    "sq8": faiss.ScalarQuantizer.QT_8bit_uniform,  # a third faster than a range for each number; re-ranking evens it
}


def search_threads(count: int) -> ThreadPoolExecutor:
    """Start threads for searching, in each of which FAISS runs on its own core only."""
    return ThreadPoolExecutor(count, thread_name_prefix="search", initializer=faiss.omp_set_num_threads, initargs=(1,))


def new_vectors(encoding: Encoding, dimensions: int, sample: NDArray[np.float32]) -> Any:
    """Make an empty FAISS index by inner product.

    Args:
        encoding: float32, float16 or one byte for each number.
        dimensions: D.
        sample: (N, D) vectors from which the range of a byte is learned; needed by `sq8` only.
    """
    if encoding == "flat":
        return faiss.IndexFlatIP(dimensions)
    index = faiss.IndexScalarQuantizer(dimensions, _QUANTIZERS[encoding], faiss.METRIC_INNER_PRODUCT)
    index.train(sample if len(sample) else np.zeros((1, dimensions), np.float32))
    return index


def new_graph(dimensions: int, neighbours: int, effort: int, sample: NDArray[np.float32]) -> Any:
    """Make an empty HNSW graph over vectors of one byte for each number.

    Args:
        dimensions: D.
        neighbours: M, links of a vector.
        effort: efConstruction, how widely neighbours are looked for.
        sample: (N, D) vectors from which the range of a byte is learned.
    """
    graph = faiss.IndexHNSWSQ(dimensions, _QUANTIZERS["sq8"], neighbours, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = effort
    graph.train(sample)
    return graph


def empty_copy(index: Any) -> Any:
    """Copy an index that was trained and holds nothing."""
    return faiss.clone_index(index)


def search_graph(
    graph: Any, probes: NDArray[np.float32], depth: int, effort: int, without: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search a graph, passing over the places `without`."""
    options: dict[str, Any] = {"efSearch": max(effort, 2 * depth)}
    if len(without):
        options["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(without))
    similarities, places = graph.search(probes, depth, params=faiss.SearchParametersHNSW(**options))
    return similarities, places


def blank(graph: Any, places: NDArray[np.int64]) -> None:
    """Overwrite vectors of a graph with zero bytes, where they lie."""
    storage = faiss.downcast_index(graph.storage)
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.ntotal * storage.code_size)
    codes.reshape(storage.ntotal, storage.code_size)[places] = 0


def within(vectors: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which of (N, D) vectors lie within the range that was learned from a sample; others would be cut to it."""
    inside: NDArray[np.bool_] = (vectors.max(axis=1) <= sample.max()) & (vectors.min(axis=1) >= sample.min())
    return inside


def stored_vectors(index: Any, start: int, count: int) -> NDArray[np.float32]:
    """Decode vectors of an index by their places, (N, D) float32."""
    storage = faiss.downcast_index(getattr(index, "storage", index))
    vectors: NDArray[np.float32] = storage.reconstruct_n(start, count)
    return vectors


def write(index: Any, take: Callable[[bytes], object]) -> None:
    """Serialise an index piece by piece."""

    def written(piece: bytes) -> int:
        take(piece)
        return len(piece)

    faiss.write_index(index, faiss.PyCallbackIOWriter(written))


def read(give: Callable[[int], bytes]) -> Any:
    """Read a serialised index piece by piece; only of bytes that were checked before."""
    return faiss.read_index(faiss.PyCallbackIOReader(give))
