"""The instruction set of this processor, on which the rounding and the saturation of lower precisions depend.

Without VNNI, engines multiply bytes by `vpmaddubsw`, which adds two products in 16 bits and saturates: 8-bit weights
then change the embeddings. VNNI, AMX and ARM add in 32 bits. bfloat16 is rounded differently by AVX-512 and by AMX.
"""

import os
import platform
from pathlib import Path
from typing import Literal

from models.runtime.session import EngineName

InstructionSet = Literal[
    "amx",
    "avx512_bf16",
    "avx512_vnni",
    "avx512",
    "avx2_bf16",
    "avx2_vnni",
    "avx2",
    "sse",
    "neon_bf16",
    "neon_dotprod",
    "neon",
    "unknown",
]

_CPUINFO = Path("/proc/cpuinfo")
_AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}  # what oneDNN calls avx512_core
_FLAGS: dict[InstructionSet, set[str]] = {  # the first set whose flags are all present
    "amx": {*_AVX512, "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"},
    "avx512_bf16": {*_AVX512, "avx512_vnni", "avx512_bf16"},
    "avx512_vnni": {*_AVX512, "avx512_vnni"},
    "avx512": _AVX512,
    "avx2_bf16": {"avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"},
    "avx2_vnni": {"avx2", "avx_vnni"},
    "avx2": {"avx2"},
    "sse": {"sse2"},
    "neon_bf16": {"asimd", "asimddp", "bf16"},
    "neon_dotprod": {"asimd", "asimddp"},
    "neon": {"asimd"},
}
_SATURATING: set[InstructionSet] = {"avx512", "avx2", "sse", "unknown"}
_WITH_BF16: set[InstructionSet] = {"amx", "avx512_bf16", "avx2_bf16"}

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # variables of oneDNN, the kernel library of OpenVINO
_AVX2: tuple[InstructionSet, ...] = ("avx2", "sse")
_LIMITED: dict[str, tuple[InstructionSet, ...]] = {  # the sets that each value permits; other values permit all
    "SSE41": ("sse",),
    "AVX": ("sse",),
    "AVX2": _AVX2,
    "AVX2_VNNI": ("avx2_vnni", *_AVX2),
    "AVX2_VNNI_2": ("avx2_bf16", "avx2_vnni", *_AVX2),
    "AVX512_CORE": ("avx512", *_AVX2),
    "AVX512_CORE_VNNI": ("avx512_vnni", "avx512", *_AVX2),
    "AVX512_CORE_BF16": ("avx512_bf16", "avx512_vnni", "avx512", *_AVX2),
    "AVX512_CORE_FP16": ("avx512_bf16", "avx512_vnni", "avx512", "avx2_vnni", *_AVX2),
    "AVX10_1_512": ("avx512_bf16", "avx512_vnni", "avx512", "avx2_vnni", *_AVX2),
}


def instruction_set(engine: EngineName) -> InstructionSet:
    """Return the most capable instruction set of this processor that an engine uses on it.

    OpenVINO uses a smaller one if `ONEDNN_MAX_CPU_ISA` is set.
    """
    present = _flags()
    permitted = _LIMITED.get(_limit(), tuple(_FLAGS)) if engine == "openvino" else tuple(_FLAGS)
    if not present:
        return "neon" if platform.machine().lower() in ("aarch64", "arm64") else "unknown"
    return next((name for name in permitted if _FLAGS[name] <= present), "unknown")


def saturates(engine: EngineName = "openvino") -> bool:
    """Return whether sums of 8-bit products saturate in an engine on this processor."""
    return instruction_set(engine) in _SATURATING


def bf16_is_disabled() -> bool:
    """Return whether `ONEDNN_MAX_CPU_ISA` disables the bfloat16 instructions, which OpenVINO reports nevertheless."""
    return _limit() in _LIMITED and instruction_set("openvino") not in _WITH_BF16


def _limit() -> str:
    return next((os.environ[name].upper() for name in _LIMITS if name in os.environ), "")


def _flags() -> set[str]:
    """Return the flags of the first processor; empty if the system does not list them."""
    try:
        with _CPUINFO.open() as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):  # on x86 and on ARM
                    return set(value.split())
    except OSError:
        pass
    return set()
