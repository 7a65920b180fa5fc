"""Sealed segments on a GPU, where a GPU build of FAISS finds one; the host keeps what changes.

FAISS' indices on a GPU can neither let rows go nor be searched by two threads at once, and only float32 and float16
ones exist there. So the host holds the vectors, a full segment is copied when it is first searched, and copied again
after a change.
"""

import threading
from typing import Any

import faiss

from service.gallery.index.faiss_vectors import Encoding


class GpuCopies:
    """Copies indices to the first GPU and searches them one at a time."""

    def __init__(self, half: bool) -> None:
        """Take the GPU.

        Args:
            half: Whether copies hold float16.
        """
        self._resources = faiss.StandardGpuResources()
        self._options = faiss.GpuClonerOptions()
        self._options.useFloat16 = half
        self._lock = threading.Lock()

    def copy(self, index: Any) -> "GpuCopy":
        """Copy a flat index."""
        with self._lock:
            return GpuCopy(faiss.index_cpu_to_gpu(self._resources, 0, index, self._options), self._lock)


class GpuCopy:
    """An index on the GPU."""

    def __init__(self, index: Any, lock: threading.Lock) -> None:
        self._index = index
        self._lock = lock

    def search(self, probes: Any, depth: int) -> Any:
        """Search as FAISS does: (Q, K) similarities and rows."""
        with self._lock:
            return self._index.search(probes, depth)


def gpu_copies(encoding: Encoding) -> GpuCopies | None:
    """Return what copies indices to the GPU; None without one, or where vectors are held as no GPU index holds them."""
    found = getattr(faiss, "get_num_gpus", int)()
    if not found or encoding not in ("flat", "flat-fp16"):
        return None
    return GpuCopies(half=encoding == "flat-fp16")
