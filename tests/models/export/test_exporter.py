"""Exports of checkpoints and published graphs: the artefact, its proof, and the errors."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.alignment import AlignmentTemplate
from models.artefact.card import CALIBRATION, CARD, PROOF, Card, NormStatistics, read_card, write_card
from models.artefact.digests import file_digest
from models.artefact.directories import replace_directory
from models.artefact.integrity import open_artefact
from models.backbones import Plan
from models.errors import (
    ArtefactUnfit,
    BuilderUnfit,
    CheckpointUnreadable,
    ColorUnknown,
    ExportProcessKilled,
    GraphUnsupported,
    ImagesUnfit,
    OutputExists,
    PackDamaged,
    StorageFailed,
    WeightsNotFinite,
)
from models.export import steps
from models.export.exporter import Exported, Exporter, ExportSpec
from models.export.isolation import run_here, run_in_subprocess
from models.export.proof import prove
from models.export.steps import SourceSpec, describe_checkpoint
from models.graph import Preprocessing, recognizer_graph
from models.packs import PackStore, find_manifest
from models.pipeline import FaceCropper
from models.runtime import RuntimeOptions, open_session
from models.runtime.instructions import instruction_set
from models.serving.choice import proven_runtimes
from models.serving.load import load_models
from models.serving.models import Models
from models.synthetic import synthetic_pictures
from tests.checkpoints import DIMENSIONS, adaface_checkpoint, save, small_adaface, small_iresnet, tensors, weights_for
from tests.pictures import encode


def no_cropper(template: AlignmentTemplate) -> FaceCropper:
    raise AssertionError(f"no photo needs cropping to {template.name}")


def order(path: Path, out: Path, published: bool = False, **about: Any) -> ExportSpec:
    own = {name: about.pop(name) for name in list(about) if name in SourceSpec.__dataclass_fields__}
    return ExportSpec(SourceSpec(path, **own), out, out.name, "a test", published=published, **about)


def export(wanted: ExportSpec) -> Exported:
    return Exporter(wanted, no_cropper, isolate=run_here).run()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(weights_for(small_iresnet()), tmp_path_factory.mktemp("checkpoint") / "backbone.pth")


@pytest.fixture(scope="module")
def artefact(checkpoint: Path) -> Exported:
    return export(order(checkpoint, checkpoint.with_name("artefact"), precisions=("fp16",)))


@pytest.fixture
def adaface(tmp_path: Path) -> Callable[[float, float], Path]:
    def make(mean: float, deviation: float) -> Path:
        torch.save(adaface_checkpoint(weights_for(small_adaface()), mean, deviation), tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return make


def test_an_artefact_is_complete_and_proven_and_describes_itself(artefact: Exported, checkpoint: Path) -> None:
    card, proof = open_artefact(artefact.path)
    assert (card.family, card.architecture, card.dimensions) == ("iresnet", "iresnet-1-1-1-1", 32)
    assert card.source == {"file": checkpoint.name, "sha256": card.source["sha256"], "form": "plain"}
    assert card.preprocessing == {"color": "rgb", "mean": 127.5, "std": 127.5}
    assert "RGB only" in card.color_from
    assert card.graphs == {"fp32": "embedder.onnx", "fp16": "embedder.fp16.onnx"}
    assert set(card.files) == {"embedder.onnx", "embedder.fp16.onnx", PROOF}
    rows = {(row["precision"], row["engine"]): row for row in proof["measured"]}
    assert {("fp32", "onnxruntime"), ("fp32", "openvino"), ("fp16", "onnxruntime"), ("fp16", "openvino")} <= rows.keys()
    assert all(row["passed"] for row in rows.values())
    assert {(row["engine"], row["isa"]) for row in rows.values()} == {
        (engine, instruction_set(engine)) for engine in ("onnxruntime", "openvino")
    }
    assert rows["fp32", "openvino"]["worst_relative_l2"] < 1e-5
    assert rows["fp16", "openvino"]["worst_relative_l2"] > 1e-5
    assert proof["reference"]["runtime"].startswith("torch")


def test_the_graph_keeps_the_contract(artefact: Exported) -> None:
    model = onnx.load(artefact.path / "embedder.onnx")
    onnx.checker.check_model(model, full_check=True)
    (faces,) = model.graph.input
    shape = [dim.dim_param or dim.dim_value for dim in faces.type.tensor_type.shape.dim]
    assert (faces.name, shape, faces.type.tensor_type.elem_type) == (
        "faces",
        ["N", 112, 112, 3],
        onnx.TensorProto.UINT8,
    )
    assert [value.name for value in model.graph.output] == ["embedding", "norm"]
    assert max(entry.version for entry in model.opset_import) >= 17
    assert {node.op_type for node in model.graph.node}.isdisjoint(
        {"BatchNormalization", "Identity", "Dropout", "Shape"}
    )
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["vultus.architecture"] == "iresnet-1-1-1-1"
    assert json.loads(notes["vultus.preprocessing"])["color"] == "rgb"


def test_the_same_weights_keep_their_contract_in_another_wrapper(artefact: Exported, tmp_path: Path) -> None:
    wrapped = {"state_dict_backbone": tensors(weights_for(small_iresnet()), "module.")}
    torch.save(wrapped, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    other = export(order(tmp_path / "b.pt", tmp_path / "out")).card
    assert other.contract_id("yunet") == artefact.card.contract_id("yunet")
    mirrored = replace(other, preprocessing={**other.preprocessing, "mirror": True})
    assert mirrored.contract_id("yunet") != other.contract_id("yunet")


def test_a_network_larger_than_one_file_is_exported_proven_and_digested(
    checkpoint: Path, store: PackStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.graph.weights.MAX_FILE_BYTES", 100_000)
    exported = export(order(checkpoint, tmp_path / "large"))
    assert exported.proof.passed
    assert {"embedder.onnx", "embedder.onnx.data"} < set(exported.card.files)
    models = load_models(store, find_manifest("opencv-zoo"), model=exported.path)
    assert models.recognizer.dimensions == DIMENSIONS
    with pytest.raises(GraphUnsupported, match="larger than 2 GB"):
        export(order(checkpoint, tmp_path / "half", precisions=("fp16",)))


def test_an_existing_directory_is_replaced_only_with_force(
    artefact: Exported, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(OutputExists, match="--force"):
        export(order(checkpoint, out))
    with pytest.raises(OutputExists, match="is not an artefact"):
        export(order(checkpoint, out, force=True))
    assert (out / "mine.txt").read_text() == "x"
    (out / "mine.txt").unlink()
    for _ in range(2):  # an empty directory, then an artefact
        export(order(checkpoint, out, force=True))
        assert open_artefact(out)[0].architecture == artefact.card.architecture
    (out / "mine").mkdir()
    with pytest.raises(OutputExists, match="is not an artefact"):
        export(order(checkpoint, out, force=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def with_calibration_and_engines(artefact: Path, out: Path) -> Path:
    """Copy an artefact and add what `vultus calibrate` and `vultus engine` add; one engine is not on the card."""
    shutil.copytree(artefact, out)
    (out / CALIBRATION).write_text("hours of work")
    for name in ("listed.engine", "unlisted.engine"):
        (out / name).write_text(name)
    card = read_card(out, Card)
    files = {**card.files, "listed.engine": file_digest(out / "listed.engine")}
    write_card(out, replace(card, engines={"listed.engine": {"graph": "embedder.onnx"}}, files=files))
    return out


def test_a_calibration_and_engines_stay_where_the_contract_stays(
    artefact: Exported, checkpoint: Path, tmp_path: Path
) -> None:
    out = with_calibration_and_engines(artefact.path, tmp_path / "out")
    exported = export(replace(order(checkpoint, out, force=True), name="artefact"))
    assert (out / CALIBRATION).read_text() == "hours of work"
    assert open_artefact(out)[0] == exported.card
    assert exported.card.engines == {"listed.engine": {"graph": "embedder.onnx"}}
    assert any(note.startswith("calibration.json stays") for note in exported.notes)
    assert any("removed: unlisted.engine;" in note for note in exported.notes)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_calibration_of_another_contract_is_kept_beside_and_lost_engines_are_named(
    artefact: Exported, tmp_path: Path
) -> None:
    other = save(weights_for(small_iresnet(), seed=1), tmp_path / "other.pth")
    out = with_calibration_and_engines(artefact.path, tmp_path / "out")
    (tmp_path / "out.calibration.json").write_text("of another export")
    exported = export(order(other, out, force=True))
    assert not (out / CALIBRATION).exists()
    assert (tmp_path / "out.calibration1.json").read_text() == "hours of work"
    assert (tmp_path / "out.calibration.json").read_text() == "of another export"
    assert any("out.calibration1.json" in note for note in exported.notes)
    assert any("removed: listed.engine, unlisted.engine;" in note for note in exported.notes)
    assert open_artefact(out)[0].engines == {}


def test_an_export_moves_the_artefact_of_a_killed_one_back_and_does_not_replace_it(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / ".out+abcdefgh/old").mkdir(parents=True)
    with pytest.raises(OutputExists, match="give --force"):
        export(order(checkpoint, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_the_output_is_followed(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, real = tmp_path / "link", tmp_path / "disk/artefact"
    link.symlink_to("disk/artefact")
    for _ in range(2):  # what it leads to is missing, then an artefact
        assert export(order(checkpoint, link, force=True)).path == real
        assert link.is_symlink()
        assert open_artefact(real)
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["artefact"]


def test_an_output_that_cannot_be_replaced_is_refused_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageFailed, match="leads to itself"):
        export(order(checkpoint, tmp_path / "loop", force=True))
    for out in ("/proc", "."):
        with pytest.raises(OutputExists, match="mount point or the working directory"):
            export(replace(order(checkpoint, tmp_path, force=True), out=Path(out)))


def test_files_of_the_user_in_an_artefact_are_not_replaced(
    artefact: Exported, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(artefact.path, out)
    mine = shutil.copy(checkpoint, out / "mine.pth")
    with pytest.raises(OutputExists, match="has other files too"):
        export(order(checkpoint, out, force=True))
    (out / "mine.pth").rename(out / "model.pt")
    with pytest.raises(OutputExists):
        export(order(out, out, force=True))
    assert (out / "model.pt").read_bytes() == checkpoint.read_bytes(), mine


@pytest.mark.parametrize("appears", ["another checkpoint", "an output"])
def test_what_changes_during_an_export_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appears: str) -> None:
    path, out = save(weights_for(small_iresnet()), tmp_path / "a.pth"), tmp_path / "out"

    def prove_late(*arguments: Any, **more: Any) -> Any:
        if appears == "an output":
            out.mkdir()
            (out / "mine.txt").write_text("x")
        else:
            save(weights_for(small_iresnet(), seed=1), path)
        return prove(*arguments, **more)

    monkeypatch.setattr("models.export.exporter.prove", prove_late)
    expected = OutputExists if appears == "an output" else CheckpointUnreadable
    with pytest.raises(expected):
        export(order(path, out))
    assert sorted(tmp_path.iterdir()) == sorted({path, *([out] if appears == "an output" else [])})


def test_the_checkpoints_own_directory_is_never_replaced(tmp_path: Path) -> None:
    path = save(weights_for(small_iresnet()), tmp_path / "backbone.pth")
    for _ in range(2):
        with pytest.raises(OutputExists):
            export(order(path, tmp_path, force=True))
    assert path.is_file()


def test_an_interrupt_between_the_renames_leaves_the_old_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, scratch = (tmp_path / name for name in ("old", "new", "scratch"))
    for folder in (old, new, scratch):
        folder.mkdir()
        (folder / folder.name).touch()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_directory(new, old, scratch)
    assert (old / "old").is_file()


def test_a_failed_export_leaves_only_the_old_artefact(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(order(checkpoint, tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(steps, "save_checked", full)
    with pytest.raises(StorageFailed, match="No space left"):
        export(order(checkpoint, tmp_path / "out", force=True))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_artefact_that_fails_its_proof_is_marked_and_not_served(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap_colours() -> None:
        monkeypatch.setattr(
            steps, "recognizer_graph", lambda model, seen, external: recognizer_graph(model, as_bgr(seen), external)
        )

    def as_bgr(seen: Preprocessing) -> Preprocessing:
        return replace(seen, color="bgr")

    swap_colours()
    failed = export(order(checkpoint, tmp_path / "out"))
    assert not failed.proof.passed
    with pytest.raises(ArtefactUnfit, match="did not pass"):
        open_artefact(tmp_path / "out")
    monkeypatch.undo()
    good = export(order(checkpoint, tmp_path / "good"))
    swap_colours()
    (tmp_path / "good.unfit").mkdir()
    (tmp_path / "good.unfit/mine.txt").write_text("x")
    beside = export(order(checkpoint, tmp_path / "good", force=True))
    assert beside.path.name == "good.unfit1"
    assert (tmp_path / "good.unfit/mine.txt").read_text() == "x"
    assert open_artefact(good.path)[0] == good.card


def test_a_checkpoint_of_adaface_is_bgr_and_has_norm_statistics(
    adaface: Callable[[float, float], Path], tmp_path: Path
) -> None:
    card = export(order(adaface(24.0, 0.75), tmp_path / "out")).card
    assert card.preprocessing["color"] == "bgr"
    assert card.norm_statistics == NormStatistics(24.0, 0.75, 0.333)
    assert read_card(tmp_path / "out", Card) == card
    assert describe_checkpoint(SourceSpec(adaface(20.0, 100.0))).norm_statistics() is None  # as initialised
    assert describe_checkpoint(SourceSpec(adaface(24.0, 0.75), mirror=True)).norm_statistics() is None


def test_an_unknown_colour_order_is_an_error(tmp_path: Path) -> None:
    weights = weights_for(small_adaface())
    bare = save(weights, tmp_path / "a.pth")
    with pytest.raises(ColorUnknown, match="--color rgb or --color bgr"):
        export(order(bare, tmp_path / "out"))
    torch.save(tensors(weights, "net."), tmp_path / "model.pt")
    with pytest.raises(ColorUnknown):
        export(order(tmp_path / "model.pt", tmp_path / "out"))
    (tmp_path / "model.yaml").write_text("color_space: RGB")
    (tmp_path / "model.pt").rename(tmp_path / "of_cvlface.pt")
    with pytest.raises(ColorUnknown):
        export(order(tmp_path / "of_cvlface.pt", tmp_path / "out"))
    told = export(order(bare, tmp_path / "out", color="rgb")).card
    assert (told.preprocessing["color"], told.color_from) == ("rgb", "the user")


def test_the_colour_order_of_the_user_overrides_the_file_and_is_recorded(
    adaface: Callable[[float, float], Path], tmp_path: Path
) -> None:
    card = export(order(adaface(24.0, 0.75), tmp_path / "out", color="rgb")).card
    assert card.preprocessing["color"] == "rgb"
    assert "states bgr instead" in card.color_from


def test_mirror_fusion_is_in_the_graph_and_in_the_contract(checkpoint: Path, tmp_path: Path) -> None:
    exported = export(order(checkpoint, tmp_path / "out", mirror=True))
    assert exported.proof.passed
    assert exported.card.preprocessing["mirror"] is True


def own_network() -> torch.nn.Module:
    """Return a network of an unknown architecture, for `--builder`."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 8, 8),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(1568, 16),
    )


class UnitAndNorm(torch.nn.Module):
    """A network that returns unit embeddings and norms, as AdaFace's network does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = own_network()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.inner(x)
        norm = torch.linalg.vector_norm(raw, dim=1, keepdim=True)
        return raw / norm, norm


class WithHead(torch.nn.Module):
    """A network with members named `backbone` and `head`, as in training wrappers."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = own_network()
        self.head = torch.nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.backbone(x))
        return y


class OneMember(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = own_network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.backbone(x)
        return y


class Centred(OneMember):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.mean(0).mean()


class AlwaysTraining(OneMember):
    def train(self, mode: bool = True) -> "AlwaysTraining":  # noqa: ARG002
        return super().train(True)


class OverEight(OneMember):
    """A network whose batch matters only if it is divided as a reference of eight faces at a time is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.backbone(x)
        return y + y[:1] / 8 * (len(x) % 8)


def not_a_network() -> int:
    return 3


def leaving() -> torch.nn.Module:
    raise SystemExit(0)


def failing() -> torch.nn.Module:
    raise RuntimeError("no such file: my-private-config")


CUSTOM_PREPROCESSING: dict[str, Any] = {"color": "bgr", "mean": (104.0, 117.0, 123.0), "std": 58.0}


@pytest.mark.parametrize("make", [own_network, UnitAndNorm, WithHead, OneMember])
def test_a_builder_exports_a_network_of_an_unknown_architecture(
    make: Callable[[], torch.nn.Module], tmp_path: Path
) -> None:
    module, name = make(), make.__name__
    torch.save(module.state_dict(), tmp_path / "own.pth")
    wanted = order(tmp_path / "own.pth", tmp_path / "out", builder=f"{__name__}:{name}", **CUSTOM_PREPROCESSING)
    exported = export(wanted)
    assert exported.proof.passed
    assert (exported.card.family, exported.card.architecture) == ("own", f"{__name__}:{name}")
    assert exported.card.preprocessing == {"color": "bgr", "mean": (104.0, 117.0, 123.0), "std": 58.0}


CHANGING = """
import torch
from tests.models.export.test_exporter import own_network

def build():
    network = own_network()
    network[2] = torch.nn.{}
    return network
"""


def test_another_network_of_the_same_builder_and_weights_has_another_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(own_network().state_dict(), tmp_path / "own.pth")
    ids = []
    for name, activation in (("a", "ReLU()"), ("b", "ReLU6()"), ("c", "ReLU()"), ("d", "LeakyReLU(0.1)")):
        (tmp_path / "changing_net.py").write_text(CHANGING.format(activation))
        sys.modules.pop("changing_net", None)
        wanted = order(tmp_path / "own.pth", tmp_path / name, builder="changing_net:build", **CUSTOM_PREPROCESSING)
        ids.append(export(wanted).card.contract_id("yunet"))
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3


def test_weights_beside_the_backbone_are_in_the_contract_of_a_builder_that_uses_them(tmp_path: Path) -> None:
    ids = set()
    weights = WithHead().state_dict()
    for name, factor in (("a", 1), ("b", 2)):
        torch.save({**weights, "head.weight": weights["head.weight"] * factor}, tmp_path / f"{name}.pth")
        wanted = order(
            tmp_path / f"{name}.pth", tmp_path / name, builder=f"{__name__}:WithHead", **CUSTOM_PREPROCESSING
        )
        ids.add(export(wanted).card.contract_id("yunet"))
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("absent_module:build", "cannot be imported"),
        (f"{__name__}:absent", "cannot be imported"),
        (f"{__name__}:CUSTOM_PREPROCESSING", "cannot be called"),
        (f"{__name__}:not_a_network", "not an nn.Module"),
        (f"{__name__}:failing", "failed: no such file"),
        (f"{__name__}:leaving", "failed: 0"),
    ],
)
def test_a_builder_that_fails_is_an_error(builder: str, said: str, tmp_path: Path) -> None:
    torch.save(own_network().state_dict(), tmp_path / "own.pth")
    with pytest.raises(BuilderUnfit, match=said):
        export(order(tmp_path / "own.pth", tmp_path / "out", builder=builder, **CUSTOM_PREPROCESSING))
    with pytest.raises(BuilderUnfit, match="--color, --mean and --std"):
        export(order(tmp_path / "own.pth", tmp_path / "out", builder=builder, color="rgb"))


@pytest.mark.parametrize("make", [Centred, AlwaysTraining, OverEight])
def test_a_network_in_which_faces_of_a_batch_affect_each_other_is_refused(
    make: Callable[[], torch.nn.Module], tmp_path: Path
) -> None:
    torch.save(make().state_dict(), tmp_path / "own.pth")
    wanted = order(
        tmp_path / "own.pth", tmp_path / "out", builder=f"{__name__}:{make.__name__}", **CUSTOM_PREPROCESSING
    )
    with pytest.raises(BuilderUnfit, match="for a face alone than in a batch"):
        export(wanted)


def test_a_published_graph_is_imported_with_the_stated_preprocessing(tmp_path: Path, artefact: Exported) -> None:
    layout = export(order(artefact.path.with_name("backbone.pth"), tmp_path / "nchw", layout="insightface"))
    about: dict[str, Any] = {"color": "rgb", "mean": 127.5, "std": 127.5}
    imported = export(order(layout.path / "embedder.onnx", tmp_path / "out", published=True, **about))
    assert imported.proof.passed
    faces = synthetic_pictures(3, 112, 112)
    own, theirs = (embed(path / "embedder.onnx", faces)[0] for path in (artefact.path, imported.path))
    np.testing.assert_allclose(own, theirs, atol=1e-5)
    for missing in about:
        with pytest.raises(ColorUnknown, match="--color"):
            export(order(layout.path / "embedder.onnx", tmp_path / "x", published=True, **{**about, missing: None}))


@pytest.mark.parametrize("plan", [small_iresnet(), small_adaface()], ids=lambda plan: plan.family)
def test_insightface_loads_its_layout_and_returns_the_same_embeddings(plan: Plan, tmp_path: Path) -> None:
    arcface = pytest.importorskip("insightface.model_zoo.arcface_onnx")
    path = save(weights_for(plan), tmp_path / "a.pth")
    about: dict[str, Any] = {"color": "bgr" if plan.family == "adaface-ir" else "rgb"}
    layout = export(order(path, tmp_path / "theirs", layout="insightface", **about))
    own = export(order(path, tmp_path / "own", **about))
    faces = synthetic_pictures(3, 112, 112)
    theirs = arcface.ArcFaceONNX(str(layout.path / "embedder.onnx"))
    theirs.prepare(-1)
    raw = theirs.get_feat([cv2.cvtColor(face, cv2.COLOR_RGB2BGR) for face in faces])
    embedding, norm = embed(own.path / "embedder.onnx", faces)
    np.testing.assert_allclose(raw, embedding * norm[:, None], rtol=1e-3, atol=1e-3)
    with pytest.raises(ArtefactUnfit, match="layout insightface"):
        open_artefact(layout.path)


def embed(graph: Path, faces: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
    options = RuntimeOptions("onnxruntime", precision="fp32")
    return open_session(graph, ("embedding", "norm"), (faces.shape[1:3],), options).run(faces)


def test_a_file_that_is_no_recognizer_is_not_imported(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not onnx")
    about: dict[str, Any] = {"color": "rgb", "mean": 0.0, "std": 1.0}
    for path in (tmp_path / "a.onnx", tmp_path / "absent.onnx", shared / "models/scrfd_500m_bnkps.onnx"):
        with pytest.raises(GraphUnsupported):
            export(order(path, tmp_path / "out", published=True, **about))


def test_int8_requires_a_minimum_number_of_faces(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ImagesUnfit, match="--calibration-images"):
        export(order(checkpoint, tmp_path / "out", precisions=("int8",)))
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/notes.txt").touch()
    (tmp_path / "faces/@eaDir").mkdir()
    with pytest.raises(ImagesUnfit, match=r"at least 32 faces.* 0 images \(passed over: 1 system folder \(@eaDir\), "):
        export(order(checkpoint, tmp_path / "out", precisions=("int8",), calibration=tmp_path / "faces"))
    with pytest.raises(ImagesUnfit, match="the directory absent does not exist"):
        export(order(checkpoint, tmp_path / "out", precisions=("int8",), calibration=tmp_path / "absent"))


@pytest.mark.parametrize(("saturating", "wanted", "expected"), [(True, None, 7), (False, None, 8), (True, 8, 8)])
def test_the_weight_bits_are_those_wanted_or_those_of_this_processor(
    saturating: bool, wanted: Any, expected: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces").mkdir()
    for number, picture in enumerate(synthetic_pictures(40, 112, 112, seed=1)):
        (tmp_path / f"faces/{number:02}.png").write_bytes(encode(Image.fromarray(picture)))
    monkeypatch.setattr("models.export.exporter.saturates", lambda: saturating)

    def stop(*arguments: Any, **_: Any) -> None:
        raise ExportProcessKilled(f"asked for {arguments[5]} bits")

    monkeypatch.setattr("models.export.exporter.write_int8", stop)
    about = {"precisions": ("int8",), "calibration": tmp_path / "faces", "weight_bits": wanted}
    with pytest.raises(ExportProcessKilled, match=f"asked for {expected} bits"):
        export(order(checkpoint, tmp_path / "out", **about))


def test_int8_is_calibrated_on_faces_and_lists_float32_layers(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number, picture in enumerate(synthetic_pictures(40, 112, 112, seed=1)):
        (tmp_path / f"faces/{number:02}").write_bytes(encode(Image.fromarray(picture)))
    (tmp_path / "faces/._00.png").write_bytes(b"\0\5\26\7")
    wanted = order(checkpoint, tmp_path / "out", precisions=("int8",), calibration=tmp_path / "faces", weight_bits=7)
    exported = export(wanted)
    assert exported.proof.passed
    assert "passed over: 1 system file (._00.png)" in exported.notes
    card = read_card(exported.path, Card)
    assert card.weight_bits == {name: 7 for kind, name in card.graphs.items() if kind in ("int8", "int8-cpu")}
    rows = {(row.precision, row.engine): row for row in exported.proof.rows}
    assert {("int8", "onnxruntime"), ("int8", "openvino")} <= rows.keys()
    kept = exported.card.higher_precision["embedder.int8.onnx"]
    graph = onnx.load(exported.path / "embedder.int8.onnx").graph
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert {"conv1", "fc"} <= set(kept)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantizers) >= 4
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in quantizers)
    scales = [constants[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert sum(scale.size > 1 for scale in scales) == len(layers) - len(kept)
    assert (tmp_path / "out/embedder.int8.onnx").stat().st_size < (tmp_path / "out/embedder.onnx").stat().st_size / 2


def test_the_service_loads_an_artefact_only_in_proven_precisions(artefact: Exported, store: PackStore) -> None:
    manifest = find_manifest("opencv-zoo")
    models = load_models(store, manifest, model=artefact.path)
    assert models.recognizer == artefact.card
    assert models.contract_id == artefact.card.contract_id("yunet")
    assert models.calibration is None
    assert models.recognizer_training_data == "not stated"  # the manifest describes the recognizer of the pack
    assert "WIDER FACE" in models.detector_training_data
    half = load_models(store, manifest, RuntimeOptions(precision="fp16"), model=artefact.path)
    assert half.embedder_session.precision == "fp16"
    with pytest.raises(ArtefactUnfit, match="not proven in int8"):
        load_models(store, manifest, RuntimeOptions(precision="int8"), model=artefact.path)
    assert isinstance(models, Models)


def test_bfloat16_is_not_served_where_its_proof_failed(artefact: Exported) -> None:
    proof = json.loads((artefact.path / PROOF).read_text())
    rows = [row for row in proof["measured"] if row["precision"] != "bf16"]
    proof["measured"] = [*rows, {"precision": "bf16", "engine": "openvino", "passed": False}]
    assert proven_runtimes(artefact.card, proof, RuntimeOptions())[0].options.precision == "fp32"
    with pytest.raises(ArtefactUnfit, match="not proven in bf16"):
        proven_runtimes(artefact.card, proof, RuntimeOptions(precision="bf16"))


def test_an_engine_that_the_proof_does_not_cover_is_not_used(artefact: Exported) -> None:
    proof = json.loads((artefact.path / PROOF).read_text())
    proof["measured"] = [row for row in proof["measured"] if row["engine"] == "onnxruntime"]
    assert proven_runtimes(artefact.card, proof, RuntimeOptions())[0].options.engine == "onnxruntime"
    with pytest.raises(ArtefactUnfit, match="not proven in fp32 on openvino"):
        proven_runtimes(artefact.card, proof, RuntimeOptions("openvino"))


def test_a_network_that_returns_zero_is_refused(tmp_path: Path) -> None:
    weights = {key: np.zeros_like(array) for key, array in weights_for(small_iresnet()).items()}
    with pytest.raises(WeightsNotFinite, match="source network"):
        export(order(save(weights, tmp_path / "a.pth"), tmp_path / "out"))


def test_a_network_with_one_embedding_for_all_faces_is_refused(tmp_path: Path) -> None:
    weights = weights_for(small_iresnet())
    weights["fc.weight"] = np.zeros_like(weights["fc.weight"])
    with pytest.raises(WeightsNotFinite, match="same embedding"):
        export(order(save(weights, tmp_path / "a.pth"), tmp_path / "out"))


def test_a_damaged_artefact_is_not_served(artefact: Exported, tmp_path: Path) -> None:
    for name in ("embedder.onnx", PROOF, CARD):
        copy = tmp_path / name.replace(".", "-")
        copy.mkdir()
        for path in artefact.path.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(PackDamaged):
            open_artefact(copy)


def die() -> None:
    import os

    os._exit(9)


def test_a_step_that_the_system_ends_is_an_error() -> None:
    with pytest.raises(ExportProcessKilled, match="memory"):
        run_in_subprocess(die)


def published(path: Path, output: list[int | str], listed: bool = False) -> Path:
    """Write an ONNX recognizer in the form of a published graph."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.ones((4, 3, 112, 112), np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", kind, ["N", 3, 112, 112])]
    if listed:
        inputs.insert(0, helper.make_tensor_value_info("w", kind, [4, 3, 112, 112]))
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", kind, output)]
    graph = helper.make_graph(nodes, "a", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


ABOUT: dict[str, Any] = {"color": "rgb", "mean": 127.5, "std": 127.5}


def test_weights_that_are_listed_as_inputs_are_not_taken_for_the_image(tmp_path: Path) -> None:
    graph = published(tmp_path / "a.onnx", ["N", 4], listed=True)
    assert export(order(graph, tmp_path / "out", published=True, **ABOUT)).proof.passed


def test_a_template_of_another_size_is_refused(tmp_path: Path) -> None:
    graph = published(tmp_path / "a.onnx", ["N", 4])
    with pytest.raises(GraphUnsupported, match="112x96"):
        export(order(graph, tmp_path / "out", published=True, template="arcface-112x96", **ABOUT))
