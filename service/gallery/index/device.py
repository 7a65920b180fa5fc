"""GPU copies of full segments, used if a GPU build of FAISS finds a GPU.

GPU indices of FAISS cannot remove rows, cannot be searched by two threads at once, return at most 2048 rows, and
support float32 and float16 only. The host therefore holds the vectors, and searches what the GPU cannot. A full segment
is copied at its first search, and again at the first search after a change.
"""

import logging
import threading
from typing import Any

import faiss

from service.gallery.index.faiss_vectors import Encoding

MAX_DEPTH = 2048  # GPU_MAX_SELECTION_K in DeviceDefs.cuh of FAISS; a deeper search raises

_log = logging.getLogger("vultus")


class GpuCopies:
    """Copies indices to the first GPU and searches them one at a time."""

    def __init__(self, half: bool) -> None:
        """Allocate the GPU resources.

        Args:
            half: Whether copies store float16.
        """
        self._resources = faiss.StandardGpuResources()
        self._options = faiss.GpuClonerOptions()
        self._options.useFloat16 = half
        self._lock = threading.Lock()
        self._full = False

    def copy(self, index: Any) -> "GpuCopy | None":
        """Copy a flat index to the GPU; return None if its memory is full, now or at an earlier copy."""
        with self._lock:
            if self._full:
                return None
            try:
                return GpuCopy(faiss.index_cpu_to_gpu(self._resources, 0, index, self._options), self._lock)
            except RuntimeError as error:  # FAISS has no class of its own
                self._full = True
                _log.warning("no more of the gallery is copied to the GPU; the rest is searched on the CPU: %s", error)
                return None


class GpuCopy:
    """An index on the GPU."""

    def __init__(self, index: Any, lock: threading.Lock) -> None:
        self._index = index
        self._lock = lock

    def search(self, probes: Any, depth: int) -> Any:
        """Search with FAISS; return (Q, K) similarities and (Q, K) rows."""
        with self._lock:
            return self._index.search(probes, depth)


def gpu_copies(encoding: Encoding) -> GpuCopies | None:
    """Return a copier for the first GPU; None without a GPU, or if GPU indices do not support the encoding."""
    found = getattr(faiss, "get_num_gpus", int)()
    if not found or encoding not in ("flat", "flat-fp16"):
        return None
    return GpuCopies(half=encoding == "flat-fp16")
