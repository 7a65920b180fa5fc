"""`make gpu-check` without a GPU: it refuses, and each of its steps runs on the CPU and reports what fails."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.packs import PackStore, find_manifest
from tests.bench.gpu_check import __main__ as gpu_check
from tests.bench.gpu_check.__main__ import FULL, NETWORKS, TINY, main
from tests.bench.gpu_check.bundle import _RUN
from tests.bench.gpu_check.cases import BATCHES, Case, cases, measure_all
from tests.bench.gpu_check.memory import measure_memory
from tests.bench.gpu_check.peak import measure_peak
from tests.bench.gpu_check.search import measure_search


@pytest.fixture(scope="module")
def networks(store: PackStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks: one has a float16 graph of another network, which the measurement must notice."""
    directory = tmp_path_factory.mktemp("networks")
    pack = store.path(find_manifest("opencv-zoo"))
    for name in ("r50", "mbf"):
        (directory / name).mkdir()
        shutil.copy(pack / "recognizer" / "embedder.onnx", directory / name)
    (directory / "mbf" / "embedder.fp16.onnx").write_bytes(b"no graph")
    return directory


def listed(networks: Path, store: PackStore, device: Any) -> list[Case]:
    found = {path.name: path for path in sorted(networks.iterdir())}
    pack = store.path(find_manifest("opencv-zoo"))
    return list(cases(found, pack, networks, device, 0.01, (1, 2)))


def test_refuses_in_a_sentence_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    assert main(["--out", str(tmp_path / "out.json")]) == 1
    printed = capsys.readouterr()
    assert printed.err == "gpu-check cannot run: no NVIDIA driver was found (libcuda.so.1); the device cuda needs one\n"
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_every_engine_and_precision_is_listed(networks: Path, store: PackStore) -> None:
    found = [(case.network, case.options.engine, case.options.precision) for case in listed(networks, store, "cuda")]
    for engine, precisions in (
        ("onnxruntime", ("fp32", "tf32", "fp16")),
        ("onnxruntime-tensorrt", ("fp32", "fp16")),
        ("tensorrt", ("fp32", "tf32", "fp16")),
    ):
        assert [precision for name, one, precision in found if (name, one) == ("mbf", engine)] == list(precisions)
        assert ("opencv-zoo recognizer", engine, "fp32") in found
        assert (("opencv-zoo detector", engine, "fp32") in found) == (engine != "tensorrt")
    memory = gpu_check._case_for_memory(listed(networks, store, "cuda"))
    assert (memory.network, memory.options.engine) == ("mbf", "onnxruntime")  # r50 has no float16 graph here
    assert max(BATCHES) == 128
    assert FULL.templates == 1_000_000
    assert FULL.runs == 10_000


class Killer:
    """A file that ends the process that receives it."""

    name = "embedder.onnx"

    def __reduce__(self) -> Any:
        return os._exit, (1,)


@pytest.mark.full
def test_a_case_that_fails_or_ends_its_process_does_not_end_the_measurement(networks: Path, store: PackStore) -> None:
    every = {(case.network, case.options.precision): case for case in listed(networks, store, "cpu")}
    broken = every["mbf", "fp16"]
    killed = every["r50", "fp32"]._replace(graph=Killer())  # type: ignore[arg-type]
    measured = measure_all(iter([broken, killed, every["r50", "fp32"]]), lambda _: None)
    assert len(measured[0].failures) == 1
    assert measured[1].failures == ["the process ended, see its messages above"]
    assert measured[2].failures == []
    assert measured[2].parity["worst_cosine"] == pytest.approx(1)
    assert sorted(measured[2].rates) == [1, 2]


def test_memory_that_does_not_grow_passes_and_an_engine_that_is_missing_fails(networks: Path, store: PackStore) -> None:
    case = next(case for case in listed(networks, store, "cpu") if case.network == "r50")
    steady = measure_memory(case, 20)
    assert (steady["failures"], steady["runs"], steady["growth_bytes"]["gpu"]) == ([], 20, 0)
    options = replace(case.options, device="cuda")
    assert "CUDAExecutionProvider" in measure_memory(case._replace(options=options), 20)["failures"][0]


def test_the_matrix_rate_and_the_search_are_measured() -> None:
    peak = measure_peak("cpu", 0.05, 64, 2)
    assert set(peak) == {"fp32", "fp16"}
    assert min(peak.values()) > 0
    for row in measure_search("cpu", 2000):
        assert (row["right"], row["failures"]) == (1, [])
    assert measure_search("cuda", 500)[0]["failures"] == ["FAISS finds no GPU"]


def test_the_goal_is_a_share_of_the_matrix_rate() -> None:
    row = {"network": "r100", "precision": "fp16", "engine": "tensorrt", "failures": []}
    for share, reached in ((0.51, True), (0.49, False)):
        goal = gpu_check._goal([{**row, "share_of_peak": {64: share}}])
        assert (goal["share"], goal["reached"]) == (share, reached)
    assert gpu_check._goal([{**row, "share_of_peak": {}}])["share"] is None
    report = {
        "device": "cuda",
        "cases": [],
        "memory": {"failures": []},
        "search": [],
        "networks_missing": ["r50"],
        "goal": gpu_check._goal([{**row, "share_of_peak": {64: 0.4}}]),
    }
    assert gpu_check._failures(report) == [
        "r50 is missing, see make gpu-bundle",
        "r100 in fp16 at batch 64: 40% of the matrix rate, and 50% are the goal",
    ]


@pytest.mark.full
def test_everything_is_measured_into_one_table_and_one_json(
    networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu-check.json"
    assert main(["--device", "cpu", "--networks", str(networks), "--out", str(out)]) == 1  # for the damaged graph
    report = json.loads(out.read_text())
    assert len(report["failures"]) == 1
    assert report["failures"][0].startswith("mbf in fp16 on onnxruntime: ")
    assert report["networks_missing"] == sorted(set(NETWORKS) - {"r50", "mbf"})
    assert {row["network"] for row in report["cases"]} >= {"r50", "mbf", "opencv-zoo recognizer", "opencv-zoo detector"}
    assert sorted(report["service"]["clients"]) == [str(count) for count in TINY.clients]
    assert report["gpu"] is None
    printed = capsys.readouterr()
    for word in ("opencv-zoo detector", "search of 2000 templates", "service, 2 clients", "memory over 40 runs"):
        assert word in printed.out


def test_a_bundle_refuses_to_measure_without_a_driver(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(_RUN)
    done = subprocess.run(["bash", str(tmp_path / "run.sh")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpu-check cannot run: no NVIDIA driver was found (libcuda.so.1)\n"
