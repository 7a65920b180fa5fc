"""`vultus export`, `import`, `inspect` and `engine`, run as commands; every error is one line with status 2."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import models.export.isolation
import service.cli.export
from models.errors import ImagesUnfit
from models.export.exporter import Exporter, ExportSpec
from models.export.isolation import run_here
from tests.checkpoints import adaface_checkpoint, save, small_adaface, small_iresnet, tensors, weights_for
from tests.service.cli.command import vultus, vultus_here
from tests.service.test_end_to_end import COMMAND, client_of, own_galleries, serving

Weights = dict[str, NDArray[Any]]


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the steps of an export in this process, because a subprocess spends most of its time importing torch."""
    monkeypatch.setattr(service.cli.export, "Exporter", partial(Exporter, isolate=run_here))
    monkeypatch.setattr(models.export.isolation, "run_in_subprocess", run_here)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("export")
    save(weights_for(small_iresnet()), folder / "backbone.pth")
    done = vultus("export", folder / "backbone.pth", "--out", folder / "artefacts/mine", "--licence", "MIT")
    assert done.returncode == 0, done.stderr
    return folder / "artefacts/mine", done.stdout


def test_export_prints_its_proof_as_a_table(exported: tuple[Path, str]) -> None:
    path, printed = exported
    assert "iresnet-1-1-1-1" in printed
    assert "rgb (the family iresnet" in printed
    assert [line.split()[:2] for line in printed.splitlines() if "pass" in line] >= [
        ["fp32", "ort"],
        ["fp32", "openvino"],
    ]
    assert all(len(line) <= 80 for line in printed.splitlines() if " pass" in line or "─" in line)
    assert str(path) in printed
    assert sorted(file.name for file in path.iterdir()) == ["embedder.onnx", "model.json", "parity.json"]


def test_the_service_verifies_with_an_exported_model(exported: tuple[Path, str], photos: Path, tmp_path: Path) -> None:
    with serving({**own_galleries(tmp_path), "VULTUS_MODEL": str(exported[0])}) as server, client_of(server) as client:
        info = client.get("/v1/info").json()
        assert info["recognizer"]["name"] == "mine"
        assert info["dimensions"] == 32
        photo = (photos / "astronaut.png").read_bytes()
        answer = client.post("/v1/verify", files={"probe": photo, "reference": photo}).json()
        assert answer["similarity"] == pytest.approx(1, abs=1e-3)
        assert answer["decision"] is None
        assert "never calibrated" in answer["uncalibrated_because"]
        embedded = client.post("/v1/embed", files={"images": photo}).json()["items"][0]["faces"][0]
        assert len(embedded["embedding"]) == 32


@pytest.mark.usefixtures("in_one_process")
def test_inspect_describes_an_artefact_and_a_checkpoint(
    exported: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = json.loads(vultus_here(capsys, "inspect", exported[0], "--json").stdout)
    assert (artefact["intact"], artefact["fit to be served"]) == ("yes", True)
    assert artefact["card"]["licence"] == "MIT"
    torch.save(adaface_checkpoint(weights_for(small_adaface()), 24.0, 0.5), tmp_path / "a.ckpt")
    checkpoint = json.loads(vultus("inspect", tmp_path / "a.ckpt", "--json").stdout)  # reads the file in a subprocess
    assert (checkpoint["family"], checkpoint["color"]) == ("adaface-ir", "bgr")
    assert checkpoint["norm statistics"] == {"mean": 24.0, "deviation": 0.5, "h": 0.333}
    torch.save(adaface_checkpoint(weights_for(small_adaface()), 20.0, 100.0), tmp_path / "b.ckpt")
    assert "before training" in vultus_here(capsys, "inspect", tmp_path / "b.ckpt").stdout


@pytest.mark.usefixtures("in_one_process")
def test_inspect_and_export_take_the_member_and_the_prefix_of_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = weights_for(small_iresnet())
    averaged = {**tensors(weights, "student.net."), "teacher.[bold]x": torch.zeros(2)}
    torch.save({"state_dict": tensors(weights_for(small_iresnet(), 1)), "ema": averaged}, tmp_path / "a.bin")
    commands: list[list[str | Path]] = [
        ["inspect", tmp_path / "a.bin"],
        ["export", tmp_path / "a.bin", "--out", tmp_path / "out"],
    ]
    for command in commands:
        done = vultus_here(capsys, *command)
        assert done.returncode == 2
        assert "holds 2 networks, in the members state_dict with no prefix" in done.stderr
        assert "ema with the prefix student.net.; name one with --member and --prefix" in done.stderr
        done = vultus_here(capsys, *command, "--member", "ema", "--prefix", "teacher")
        assert "no known network has these weights" in done.stderr
        done = vultus_here(capsys, *command, "--member", "emma")
        assert "no member emma with weights; members with weights: state_dict, ema" in done.stderr
    for options in (["--member", "ema"], ["--prefix", "student"]):
        done = vultus_here(capsys, "inspect", tmp_path / "a.bin", *options)
        assert done.returncode == 0, done.stderr
        assert "member ema, prefix student.net." in done.stdout
        assert "teacher.[bold]x 2" in done.stdout  # no markup of the terminal


Bad = Callable[..., str]


@pytest.fixture
def bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bad:
    """Export a file, check that it leaves no files behind, and return the single line of the error."""

    def run(content: Any, *options: str, in_subprocess: bool = False) -> str:
        path = tmp_path / "bad.pth"
        if content is not None:
            torch.save(content, path)
        arguments: list[str | Path] = ["export", path, "--out", tmp_path / "out", *options]
        done = vultus(*arguments) if in_subprocess else vultus_here(capsys, *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        assert line.startswith("vultus: ")
        assert not (tmp_path / "out").exists()
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
        return line

    return run


class RunsCommand:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def without(weights: Weights, key: str) -> Weights:
    return {name: array for name, array in weights.items() if name != key}


@pytest.mark.usefixtures("in_one_process")
def test_invalid_checkpoints_end_in_one_line_each(bad: Bad, tmp_path: Path) -> None:
    intact = weights_for(small_iresnet())
    not_finite = {**intact, "fc.bias": np.full_like(intact["fc.bias"], np.nan)}
    assert "the file calls posix.system" in bad({**tensors(intact), "x": RunsCommand()}, in_subprocess=True)
    assert "fc.bias holds NaN" in bad(tensors(not_finite))
    assert "layer2.0.bn3.bias is missing" in bad(tensors(without(intact, "layer2.0.bn3.bias")))
    assert "extra.weight is not part of it" in bad({**tensors(intact), "extra.weight": torch.zeros(3)})
    assert "features.weight is 16 instead of 32" in bad({**tensors(intact), "features.weight": torch.zeros(16)})
    assert "a pickled module" in bad(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    assert "holds no network, only param_groups, state" in bad({"state": {}, "param_groups": [{"lr": 0.1}]})
    assert "--color rgb or --color bgr" in bad(tensors(weights_for(small_adaface())))
    torch.save(tensors(intact), tmp_path / "bad.pth")
    content = (tmp_path / "bad.pth").read_bytes()
    (tmp_path / "bad.pth").write_bytes(content[: len(content) // 2])
    assert "truncated or corrupt" in bad(None)
    (tmp_path / "bad.pth").write_bytes(content)
    assert "give --calibration-images" in bad(None, "--precision", "int8")
    assert "fp32 only" in bad(None, "--precision", "fp16", "--layout", "insightface")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_scratch_directory(tmp_path: Path, number: signal.Signals) -> None:
    save(weights_for(small_iresnet()), tmp_path / "backbone.pth")
    command = [*COMMAND, "export", str(tmp_path / "backbone.pth"), "--out", str(tmp_path / "out")]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdout=quiet, stderr=quiet, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    ) as process:
        while process.poll() is None and not list(tmp_path.glob(".out+*")):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.pth"]


def test_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    save(weights_for(small_iresnet()), tmp_path / "backbone.pth")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    done = vultus("export", tmp_path / "backbone.pth", "--out", tmp_path / "out", preexec_fn=limit)
    assert done.returncode == 2
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.pth"]


def test_an_existing_directory_is_refused_with_a_hint(
    exported: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    done = vultus_here(capsys, "export", exported[0].parents[1] / "backbone.pth", "--out", exported[0])
    assert done.returncode == 2
    assert "exists; give --force" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--std", "0.5"],
        ["--mean", "a"],
        ["--std", "1,2"],
        ["--precision", "fp8"],
        ["--template", "x"],
        ["--color", "grb"],
    ],
)
def test_invalid_options_are_refused(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = vultus_here(capsys, "export", tmp_path / "a.pth", "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--weight-bits", "9", "--precision", "int8"], "available numbers: 7, 8"),
        (["--weight-bits", "7"], "add int8 to --precision"),
        (["--weight-bits", "8", "--precision", "fp16"], "add int8 to --precision"),
    ],
)
def test_weight_bits_are_7_or_8_and_need_int8(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = vultus_here(capsys, "export", tmp_path / "a.pth", "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", [("export",), ("import", "--color", "rgb", "--mean", "0", "--std", "1")])
def test_weight_bits_reach_the_export(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[ExportSpec] = []

    class Stopped:
        def __init__(self, spec: ExportSpec, *_: Any) -> None:
            specs.append(spec)

        def run(self) -> None:
            raise ImagesUnfit("stopped")

    monkeypatch.setattr(service.cli.export, "Exporter", Stopped)
    name, *options = command
    arguments: list[str | Path] = [tmp_path / "a", "--out", tmp_path / "out", *options, "--precision", "int8"]
    assert "stopped" in vultus_here(capsys, name, *arguments, "--weight-bits", "7").stderr
    vultus_here(capsys, name, *arguments)
    assert [spec.weight_bits for spec in specs] == [7, None]


def test_engines_require_tensorrt_and_a_gpu(exported: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    done = vultus_here(capsys, "engine", exported[0], "--gpu")
    assert done.returncode == 2
    assert "TensorRT" in done.stderr or "NVIDIA" in done.stderr
    assert vultus_here(capsys, "engine", exported[0]).returncode == 2


def test_a_terminated_command_leaves_no_files_behind(tmp_path: Path) -> None:
    save(weights_for(small_iresnet()), tmp_path / "backbone.pth")
    command = [*COMMAND, "export", str(tmp_path / "backbone.pth"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not any(path.name.startswith(".out+") for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the directory is the only sign that the process has begun
        process.terminate()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.pth"]
