"""Have the C library give memory back: a service runs for months, and its peaks are long over."""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
_LARGE_BYTES = 4 * 2**20  # more than the pixels of an ordinary photo at the scale at which it is looked at
_FEWEST_HEAPS = 2


def keep_memory_small(cores: int) -> None:
    """Let glibc map large blocks one by one, so that freeing them returns them, and keep few heaps for the others.

    By default it raises the size from which it maps whenever such a block is freed, up to 32 MiB, and keeps smaller
    ones: after a few photos of 40 megapixels with transparency a process stays 600 MB larger. And it makes eight heaps
    for each core, which all end in fragments: on two cores `make bench-soak` held 630 MB with them and 575 MB with two.
    Other C libraries are left as they are.

    Args:
        cores: That this process may use; no more of its threads ask for memory at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, max(_FEWEST_HEAPS, cores))
