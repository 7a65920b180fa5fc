"""The instruction set read from the flags of a processor, and its limit by oneDNN's variable."""

from pathlib import Path

import pytest

from models.runtime import instructions
from models.runtime.instructions import bf16_is_disabled, instruction_set, saturates
from models.runtime.openvino_engine import has_bf16

HASWELL = "fpu sse2 ssse3 fma sse4_1 sse4_2 avx f16c bmi1 avx2 bmi2"
SKYLAKE = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = f"{SKYLAKE} avx512ifma avx512vbmi avx512_vnni avx512_bitalg"
ZEN_4 = f"{ICE_LAKE} avx512_bf16"
SAPPHIRE_RAPIDS = f"{ZEN_4} avx_vnni avx512_fp16 amx_bf16 amx_tile amx_int8"
ALDER_LAKE = f"{HASWELL} avx_vnni"
SIERRA_FOREST = f"{ALDER_LAKE} avx_vnni_int8 avx_ne_convert"
GRAVITON_2 = "fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp"


@pytest.fixture(autouse=True)
def without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: str, name: str = "flags") -> None:
    (folder / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: A CPU\n{name}\t\t: {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(instructions, "_CPUINFO", folder / "cpuinfo")


@pytest.mark.parametrize(
    ("flags", "expected", "saturating"),
    [
        ("fpu sse2 ssse3", "sse", True),
        (HASWELL, "avx2", True),
        (SKYLAKE, "avx512", True),
        (ALDER_LAKE, "avx2_vnni", False),
        (SIERRA_FOREST, "avx2_bf16", False),
        (ICE_LAKE, "avx512_vnni", False),
        (ZEN_4, "avx512_bf16", False),
        (SAPPHIRE_RAPIDS, "amx", False),
        ("fpu", "unknown", True),
    ],
)
def test_reads_the_instruction_set_and_whether_it_saturates(
    flags: str, expected: str, saturating: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor(monkeypatch, tmp_path, flags)
    assert instruction_set("openvino") == instruction_set("onnxruntime") == expected
    assert saturates() is saturating


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fp asimd", "neon"), (GRAVITON_2, "neon_dotprod"), (f"{GRAVITON_2} i8mm bf16", "neon_bf16")],
)
def test_reads_the_features_of_arm(flags: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor(monkeypatch, tmp_path, flags, "Features")
    assert instruction_set("openvino") == expected
    assert not saturates()


@pytest.mark.parametrize(("machine", "expected"), [("arm64", "neon"), ("x86_64", "unknown")])
def test_a_system_that_lists_no_flags_is_only_known_by_its_architecture(
    machine: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(instructions, "_CPUINFO", tmp_path / "missing")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert instruction_set("onnxruntime") == expected


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "expected", "disabled"),
    [
        ("avx2", "avx2", True),
        ("AVX2_VNNI", "avx2_vnni", True),
        ("AVX512_CORE", "avx512", True),
        ("AVX512_CORE_VNNI", "avx512_vnni", True),
        ("AVX512_CORE_FP16", "avx512_bf16", False),
        ("AVX512_CORE_AMX", "amx", False),
        ("DEFAULT", "amx", False),
    ],
)
def test_the_variable_of_onednn_limits_openvino_only(
    variable: str, limit: str, expected: str, disabled: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor(monkeypatch, tmp_path, SAPPHIRE_RAPIDS)
    monkeypatch.setenv(variable, limit)
    assert instruction_set("openvino") == expected
    assert instruction_set("onnxruntime") == "amx"
    assert bf16_is_disabled() is disabled


def test_bfloat16_is_not_used_where_onednn_may_not_use_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not has_bf16()
