"""Configure glibc to return freed memory: a service runs for months, and its peaks are short."""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
_LARGE_BYTES = 4 * 2**20  # more than the pixels of an ordinary photo at the scale of detection
_MIN_ARENAS = 2


def limit_retained_memory(cores: int) -> None:
    """Make glibc map each large block separately, so that freeing it returns its memory, and limit the arenas.

    By default, glibc raises its mmap threshold whenever a mapped block is freed, up to 32 MiB, and retains freed blocks
    below the threshold: after a few photos of 40 megapixels with transparency a process stays 600 MB larger. It also
    creates up to eight arenas for each core, and all of them fragment: on two cores, `make bench-soak` used 630 MB with
    the default and 575 MB with two arenas. Other C libraries are not changed.

    Args:
        cores: Number of cores that this process may use, which is also the number of arenas, at least two; no more
            threads than that allocate at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, max(_MIN_ARENAS, cores))
