"""Functions around FAISS: storing, comparing and serialising vectors.

The wheels ship `distance_compute_blas_threshold` = 128000. Batches of ordinary size then never use BLAS and take six
times as long; BLAS pays off from four probes. FAISS' own threads are disabled: a single probe gains nothing from them,
and concurrent requests would compete for cores. The segments of an index are searched in parallel instead.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

Encoding = Literal["flat", "flat-fp16", "sq8"]

BYTES = {"flat": 4, "flat-fp16": 2, "sq8": 1, "hnsw": 1}
"""Bytes of a number of a vector, by kind of index."""

_BLAS_FROM_PROBES = 4

faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM_PROBES

_QUANTIZERS = {
    "flat-fp16": faiss.ScalarQuantizer.QT_fp16,
    # One range for all dimensions is a third faster than one for each; re-ranking compensates for the lost accuracy.
    "sq8": faiss.ScalarQuantizer.QT_8bit_uniform,
}


def search_pool(count: int) -> ThreadPoolExecutor:
    """Start search threads, in each of which FAISS uses one core."""
    return ThreadPoolExecutor(count, thread_name_prefix="search", initializer=faiss.omp_set_num_threads, initargs=(1,))


def new_vectors(encoding: Encoding, dimensions: int, sample: NDArray[np.float32]) -> Any:
    """Create an empty FAISS index that compares by inner product.

    Args:
        encoding: float32, float16 or one byte for each number.
        dimensions: D.
        sample: (N, D) vectors from which `sq8` learns the range of a byte; unused by the other encodings.
    """
    if encoding == "flat":
        return faiss.IndexFlatIP(dimensions)
    index = faiss.IndexScalarQuantizer(dimensions, _QUANTIZERS[encoding], faiss.METRIC_INNER_PRODUCT)
    index.train(sample if len(sample) else np.zeros((1, dimensions), np.float32))
    return index


def new_graph(dimensions: int, neighbours: int, effort: int, sample: NDArray[np.float32]) -> Any:
    """Create an empty HNSW graph over vectors with one byte for each number.

    Args:
        dimensions: D.
        neighbours: M, links of a vector.
        effort: efConstruction, number of candidates considered as neighbours of a new vector.
        sample: (N, D) vectors from which the range of a byte is learned.
    """
    graph = faiss.IndexHNSWSQ(dimensions, _QUANTIZERS["sq8"], neighbours, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = effort
    graph.train(sample)
    return graph


def empty_copy(index: Any) -> Any:
    """Copy a trained index that contains no vectors."""
    return faiss.clone_index(index)


def search_graph(
    graph: Any, probes: NDArray[np.float32], depth: int, effort: int, without: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search a graph for similarities and positions, excluding the positions `without`."""
    options: dict[str, Any] = {"efSearch": max(effort, 2 * depth)}
    if len(without):
        options["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(without))
    similarities, positions = graph.search(probes, depth, params=faiss.SearchParametersHNSW(**options))
    return similarities, positions


def blank(graph: Any, places: NDArray[np.int64]) -> None:
    """Overwrite vectors of a graph with zero bytes, in place."""
    storage = faiss.downcast_index(graph.storage)
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.ntotal * storage.code_size)
    codes.reshape(storage.ntotal, storage.code_size)[places] = 0


def within(vectors: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return an (N,) mask of the (N, D) vectors inside the range learned from a sample; `sq8` would clip the others."""
    inside: NDArray[np.bool_] = (vectors.max(axis=1) <= sample.max()) & (vectors.min(axis=1) >= sample.min())
    return inside


def stored_vectors(index: Any, start: int, count: int) -> NDArray[np.float32]:
    """Decode `count` vectors of an index from the position `start`, (N, D) float32."""
    storage = faiss.downcast_index(getattr(index, "storage", index))
    vectors: NDArray[np.float32] = storage.reconstruct_n(start, count)
    return vectors


def write(index: Any, take: Callable[[bytes], object]) -> None:
    """Serialise an index, passing each piece to `take`."""

    def written(piece: bytes) -> int:
        take(piece)
        return len(piece)

    faiss.write_index(index, faiss.PyCallbackIOWriter(written))


def read(give: Callable[[int], bytes]) -> Any:
    """Deserialise an index from the pieces that `give` returns; the caller must have verified the bytes."""
    return faiss.read_index(faiss.PyCallbackIOReader(give))
