"""Give the memory of large photos back to the system when they are done."""

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE_BYTES = 4 * 2**20  # more than the pixels of an ordinary photo at the scale at which it is looked at


def return_large_blocks() -> None:
    """Let glibc map large blocks one by one, so that freeing them returns them.

    By default it raises that size whenever such a block is freed, up to 32 MiB, and keeps smaller ones: after a few
    photos of 40 megapixels with transparency a process stays 600 MB larger. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
