import io
import os
import pickle
import struct
import sys
import time
import types
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16
from safetensors.torch import save_file

from models.checkpoint import read_checkpoint
from models.checkpoint.sidecar import Sidecar, read_sidecar
from models.checkpoint.unpickling import unpickle_bytes
from models.errors import (
    CheckpointIsModule,
    CheckpointUnreadable,
    CheckpointUnsafe,
    CheckpointWithoutWeights,
    ExportError,
    WeightsNotFinite,
)
from tests.checkpoints import adaface_checkpoint, small_adaface, small_iresnet, tensors, weights_for

WEIGHTS = {
    "conv.weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3),
    "bn.bias": np.array([1.5, -2], np.float32),
    "bn.num_batches_tracked": np.array(100),
}


def assert_same(path: Path, member: str = "", prefix: str = "") -> None:
    checkpoint = read_checkpoint(path)
    assert checkpoint.weights.keys() == WEIGHTS.keys()
    for key, array in WEIGHTS.items():
        np.testing.assert_array_equal(checkpoint.weights[key], array)
        assert checkpoint.weights[key].shape == array.shape
    assert (checkpoint.member, checkpoint.prefix) == (member, prefix)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    ("member", "prefix"),
    [
        ("", ""),
        ("", "module."),
        ("", "backbone."),
        ("", "model."),
        ("state_dict", "model."),
        ("net_state_dict", ""),
        ("state_dict_backbone", "module."),
        ("", "net."),
        ("", "model.net."),
        ("state_dict", "module.model."),
    ],
)
def test_reads_every_wrapper(member: str, prefix: str, legacy: bool, tmp_path: Path) -> None:
    inner = tensors(WEIGHTS, prefix)
    content = {"epoch": 3, member: inner, "optimizer": {"state": {}}} if member else inner
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_same(path, member, prefix)


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_files_saved_from_a_gpu(legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
    torch.save(tensors(WEIGHTS), tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert_same(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_reads_other_floating_point_widths(kind: torch.dtype, form: str, tmp_path: Path) -> None:
    content = {key: value.to(kind) if value.is_floating_point() else value for key, value in tensors(WEIGHTS).items()}
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.ckpt")
    if form == "safetensors":
        save_file(content, path, metadata={"format": "pt"})
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    weights = read_checkpoint(path).weights
    np.testing.assert_array_equal(weights["conv.weight"].astype(np.float32), WEIGHTS["conv.weight"])
    assert weights["conv.weight"].dtype.name == str(kind).removeprefix("torch.")


def test_reads_views_and_shared_storages(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    content = OrderedDict(base=base, middle=base[3:7], transposed=base.reshape(3, 4).T)
    for legacy in (False, True):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        weights = read_checkpoint(tmp_path / "a.pt").weights
        for key, value in content.items():
            np.testing.assert_array_equal(weights[key], value.numpy())


def test_reads_a_file_that_mentions_a_class_which_is_not_installed(tmp_path: Path) -> None:
    weights = weights_for(small_adaface())
    foreign = type("ModelCheckpoint", (), {"__module__": "absent_package.callbacks"})
    module = types.ModuleType("absent_package.callbacks")
    module.ModelCheckpoint = foreign  # type: ignore[attr-defined]
    sys.modules["absent_package"] = types.ModuleType("absent_package")
    sys.modules["absent_package.callbacks"] = module
    try:
        content = adaface_checkpoint(
            weights,
            24.0,
            0.8,
            callbacks={foreign: {"best": torch.tensor(0.97)}},
            lr_schedulers=[{"milestones": Counter({12: 1})}],
            hyper_parameters={"h": 0.4, "arch": "ir_18"},
        )
        torch.save(content, tmp_path / "a.ckpt")
    finally:
        del sys.modules["absent_package"], sys.modules["absent_package.callbacks"]
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert checkpoint.weights.keys() == weights.keys()
    assert checkpoint.head is not None
    assert (checkpoint.head.mean, checkpoint.head.h, checkpoint.head.fresh) == (24.0, 0.4, False)


def test_reports_norm_statistics_that_training_never_updated(tmp_path: Path) -> None:
    torch.save(adaface_checkpoint(weights_for(small_adaface()), 20.0, 100.0), tmp_path / "a.ckpt")
    head = read_checkpoint(tmp_path / "a.ckpt").head
    assert head is not None
    assert head.fresh


def test_the_same_weights_have_the_same_digest_in_every_wrapper(tmp_path: Path) -> None:
    torch.save(tensors(WEIGHTS), tmp_path / "a.pth")
    torch.save({"state_dict": tensors(WEIGHTS, "module.")}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    save_file(tensors(WEIGHTS), tmp_path / "c.safetensors")
    digests = {read_checkpoint(tmp_path / name).weights_digest() for name in ("a.pth", "b.ckpt", "c.safetensors")}
    assert len(digests) == 1
    torch.save({**tensors(WEIGHTS), "bn.bias": torch.tensor([1.5, -2.01])}, tmp_path / "d.pth")
    assert read_checkpoint(tmp_path / "d.pth").weights_digest() not in digests


class Calls:
    """An object that pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Calls(os.system, "touch ran"), "posix.system"),
        (Calls(eval, "open('ran', 'w')"), "builtins.eval"),
        (Calls(getattr, "x", "upper"), "builtins.getattr"),
        (Calls(torch.load, "ran"), "torch.serialization.load"),
    ],
)
def test_refuses_calls_without_running_them_and_names_the_callable(
    call: Calls, name: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**tensors(WEIGHTS), "extra": call}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointUnsafe, match=name):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_refuses_a_bare_pickle_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Calls(os.system, "touch ran")))
    with pytest.raises(CheckpointUnsafe, match=r"posix\.system"):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_refuses_objects_of_unlisted_classes_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"a": types.SimpleNamespace(x=1)}, protocol))
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointUnsafe, match=r"types\.SimpleNamespace"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_refuses_a_pickled_module(legacy: bool, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointIsModule, match="state_dict"):
        read_checkpoint(tmp_path / "a.pth")


def test_refuses_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", pickle.dumps({}))
    with pytest.raises(CheckpointIsModule, match="TorchScript"):
        read_checkpoint(tmp_path / "a.pt")


def test_refuses_a_file_with_only_an_optimizer(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointWithoutWeights, match="param_groups"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_refuses_weights_that_are_not_finite(value: float, kind: torch.dtype, tmp_path: Path) -> None:
    weights = {"conv.weight": torch.ones(4, dtype=kind), "bn.bias": torch.tensor([1, value], dtype=kind)}
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(WeightsNotFinite, match=r"bn\.bias"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_refuses_a_file_truncated_anywhere(form: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    if form == "safetensors":
        save_file(tensors(WEIGHTS), path)
    else:
        torch.save(tensors(WEIGHTS), path, _use_new_zipfile_serialization=form == "zip")
    intact = path.read_bytes()
    for length in [*range(0, len(intact), max(1, len(intact) // 60)), len(intact) - 1]:
        path.write_bytes(intact[:length])
        with pytest.raises(CheckpointUnreadable):
            read_checkpoint(path)


def test_detects_a_flipped_bit_in_the_weights_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(tensors(WEIGHTS), path)
    content = bytearray(path.read_bytes())
    content[content.index(WEIGHTS["conv.weight"].tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match="checksum"):
        read_checkpoint(path)


def test_random_changes_of_bytes_raise_one_line_errors(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.pth", np.random.default_rng(0)
    torch.save(tensors(WEIGHTS), path, _use_new_zipfile_serialization=False)
    intact = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(300):
        damaged = intact.copy()
        damaged[rng.integers(0, len(intact), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read_checkpoint(path)
        except ExportError as error:
            assert "\n" not in str(error)


def test_refuses_a_tensor_that_exceeds_its_storage(tmp_path: Path) -> None:
    for stride, size in ((1, 9), (100, 2), (0, 9)):
        tensor = torch.zeros(8)
        torch.save({"a": tensor}, tmp_path / "a.pt")
        archive = zipfile.ZipFile(tmp_path / "a.pt")
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        name = next(name for name in entries if name.endswith("data.pkl"))
        head, tail = entries[name].split(b"K\x08\x85q", 1)  # the shape (8,)
        memo, rest = tail[:1], tail[1:]
        rest = rest.replace(b"K\x01\x85", struct.pack("<cBc", b"K", stride, b"\x85"), 1)
        entries[name] = head + struct.pack("<cBcc", b"K", size, b"\x85", b"q") + memo + rest
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as changed:
            for entry, content in entries.items():
                changed.writestr(entry, content)
        with pytest.raises(CheckpointUnreadable, match="tensor"):
            read_checkpoint(tmp_path / "a.pt")


def zip_of(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a/data.pkl", content)
    return buffer.getvalue()


LEGACY_START = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
HOSTILE = {
    "a memo of a billion entries": zip_of(b"\x80\x02}r\xff\xff\xff\x3f."),
    "lists that double forty times": zip_of(b"\x80\x02]" + b"(20e" * 40 + b"."),
    "nesting": zip_of(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "a list in itself": zip_of(b"\x80\x02}X\x05\x00\x00\x00modelq\x01}q\x02h\x01h\x02ss."),
    "compressed entries": zip_of(pickle.dumps({}), zipfile.ZIP_DEFLATED),
    "a huge number": zip_of(b"\x80\x02\x8b\xff\xff\xff\x7f."),
    "storage keys that are a number": LEGACY_START + pickle.dumps({}, 2) + pickle.dumps(5, 2),
    "storage keys that are lists": LEGACY_START + pickle.dumps({}, 2) + pickle.dumps([[1]], 2),
    "a huge shape": zip_of(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x04tQ\x8a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00K\x04\x85K\x01\x85\x89}tR."
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_malicious_files_quickly(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(HOSTILE[name])
    start = time.monotonic()
    with pytest.raises(ExportError):
        read_checkpoint(tmp_path / "a.pth")
    assert time.monotonic() - start < 5


def test_a_malicious_model_description_states_no_colour_order(tmp_path: Path) -> None:
    torch.save(tensors(WEIGHTS, "net."), tmp_path / "model.pt")
    doubling = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    for text in (
        f"{doubling}color_space: *a39\n",
        "color_space: " + "[" * 5000,
        "color_space: &a [*a]",
        "color_space: 3",
    ):
        (tmp_path / "model.yaml").write_text(text)
        sidecar = read_checkpoint(tmp_path).sidecar
        assert sidecar is not None
        assert sidecar.color is None


def test_a_model_description_holds_for_the_checkpoint_of_its_name_only(tmp_path: Path) -> None:
    hub = {"model.pt", "model.safetensors", "pytorch_model.bin"}
    described = {"model.yaml": hub - {"pytorch_model.bin"}, "config.json": hub, "a.yaml": {"a.pt"}}
    for description, own in described.items():
        folder = tmp_path / description
        folder.mkdir()
        (folder / description).write_text('{"color_space": "BGR"}')
        assert {
            name for name in (*hub, "a.pt", "b.pt") if read_sidecar(folder / name) == Sidecar(description, "bgr")
        } == own


def test_reads_the_model_description_in_a_directory_of_cvlface(tmp_path: Path) -> None:
    torch.save(tensors(WEIGHTS, "net."), tmp_path / "model.pt")
    for text, color in (
        ("color_space: BGR\n", "bgr"),
        ("color_space: RGB\n", "rgb"),
        ("name: ir50\n", None),
        (": [", None),
    ):
        (tmp_path / "model.yaml").write_text(text)
        sidecar = read_checkpoint(tmp_path).sidecar
        assert sidecar is not None
        assert sidecar.color == color


@pytest.mark.parametrize("name", ["absent.pth", "notes.txt", "empty.pth", "folder"])
def test_refuses_paths_that_are_not_checkpoints(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointUnreadable):
        read_checkpoint(tmp_path / name)


def test_reads_the_small_iresnet_of_the_export_tests(tmp_path: Path) -> None:
    weights = weights_for(small_iresnet())
    torch.save(tensors(weights), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").weights.keys() == weights.keys()


def test_a_file_cannot_change_a_dtype_of_the_process(tmp_path: Path) -> None:
    """bfloat16 is one object in the process; BUILD would set its size and byte order."""
    before = np.dtype(bfloat16).itemsize, np.dtype(bfloat16).byteorder
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)[2:-1]
    path = tmp_path / "evil.pth"
    path.write_bytes(b"\x80\x02ctorch\nBFloat16Storage\n" + state + b"b.")
    with pytest.raises(CheckpointUnreadable):
        unpickle_bytes(path.read_bytes())
    assert (np.dtype(bfloat16).itemsize, np.dtype(bfloat16).byteorder) == before == (2, "=")
