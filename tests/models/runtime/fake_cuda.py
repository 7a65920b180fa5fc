"""A fake of the CUDA runtime of `cuda-bindings`. `tests.gpu_wheels` compares it with the real one."""

import ctypes
from enum import IntEnum
from typing import Any


class FakeCuda:
    """Separate host and device memory. Every call is recorded; `refuses` names a call that fails."""

    cudaHostAllocDefault = 0

    class cudaMemcpyKind(IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[str] = []
        self.refuses = refuses
        self.memory: dict[int, Any] = {}
        self.freed: list[int] = []

    def _answer(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(name)
        return (2, *(None for _ in values)) if name == self.refuses else (0, *values)

    def _allocate(self, name: str, size: int) -> tuple[Any, ...]:
        block = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(block)
        self.memory[address] = block
        return self._answer(name, address)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return self._answer(f"device {device}")

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaHostAllocDefault
        return self._allocate("cudaHostAlloc", size)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMalloc", size)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == 1  # cudaStreamNonBlocking
        return self._answer("cudaStreamCreateWithFlags", 77)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        assert isinstance(kind, self.cudaMemcpyKind)
        assert size <= min(len(self.memory[target]), len(self.memory[source]))
        ctypes.memmove(target, source, size)
        return self._answer(f"copy {kind.name[10:]} {size}")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        return self._answer("cudaStreamSynchronize")

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return self._answer(f"destroy {stream}")

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self.freed.append(address)
        return self._answer("cudaFree")

    cudaFreeHost = cudaFree
