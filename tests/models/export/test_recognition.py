"""Every step of an export uses the network that the description found, also beside another one."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models.backbones import Plan
from models.checkpoint import Selection
from models.errors import CheckpointAmbiguous
from models.export import steps
from models.export.network import SourceNetwork
from models.export.steps import SourceSpec, describe_checkpoint, embed_by_checkpoint, write_graph
from models.graph import Preprocessing
from tests.checkpoints import small_iresnet, tensors, weights_for

RGB = Preprocessing("rgb", 127.5, 127.5)
FIRST, SECOND = weights_for(small_iresnet()), weights_for(small_iresnet(), seed=1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "faces.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize(
    "selection",
    [Selection(prefix="module"), Selection(member="b"), Selection("a", "")],
    ids=["prefix", "member", "none"],
)
def test_the_selected_network_is_embedded_and_written(selection: Selection, faces: Path, tmp_path: Path) -> None:
    """The other network has the same keys, and the NaN in a head beside it must not matter in any step."""
    broken = {"arcface.weight": torch.full((3, 32), torch.nan)}
    plain, wrapped = tensors(FIRST), {**tensors(SECOND, "module."), **broken}
    content = {"b": wrapped, "a": plain} if selection.member == "b" else {"a": {**plain, **wrapped}}
    torch.save(content, tmp_path / "a.pth")
    source = SourceSpec(tmp_path / "a.pth", selection=selection)
    with pytest.raises(CheckpointAmbiguous):
        describe_checkpoint(SourceSpec(tmp_path / "a.pth"))
    described = describe_checkpoint(source)
    found = SourceSpec(tmp_path / "a.pth", selection=described.selection)
    weights = FIRST if selection.prefix == "" else SECOND
    expected = SourceNetwork(small_iresnet(), weights).embed(np.load(faces), RGB)
    (embedded,), _ = embed_by_checkpoint(found, RGB, [faces], tmp_path / "skeleton.onnx")
    np.testing.assert_array_equal(embedded, expected)
    write_graph(found, tmp_path / "skeleton.onnx", RGB, tmp_path / "a.onnx", "vultus", {})
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    embedding, norm = session.run(["embedding", "norm"], {session.get_inputs()[0].name: np.load(faces)})
    np.testing.assert_allclose(embedding * norm.reshape(-1, 1), expected, rtol=1e-3, atol=1e-4)


def test_float8_weights_are_embedded_as_their_numbers(faces: Path, tmp_path: Path) -> None:
    rounded = {key: value.to(torch.float8_e4m3fn) if value.ndim > 1 else value for key, value in tensors(FIRST).items()}
    torch.save(rounded, tmp_path / "a.pth")
    expected = SourceNetwork(small_iresnet(), {key: value.float().numpy() for key, value in rounded.items()})
    (embedded,), _ = embed_by_checkpoint(SourceSpec(tmp_path / "a.pth"), RGB, [faces], tmp_path / "skeleton.onnx")
    np.testing.assert_array_equal(embedded, expected.embed(np.load(faces), RGB))


def test_a_builder_uses_the_selected_member_and_keys_beside_the_usual_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrapped(torch.nn.Module):
        """A network whose members have the names of a wrapper and of a head."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    monkeypatch.setattr("models.export.network.builder_plan", lambda *_: Plan("own", "x", Wrapped))
    torch.save({"model": Wrapped().state_dict(), "model_ema": Wrapped().state_dict()}, tmp_path / "a.pth")
    given = SourceSpec(tmp_path / "a.pth", "rgb", 0, 1, builder="a:b")
    with pytest.raises(CheckpointAmbiguous, match="in the members model, model_ema; name one with --member"):
        describe_checkpoint(given)
    described = describe_checkpoint(
        SourceSpec(given.path, "rgb", 0, 1, builder="a:b", selection=Selection("model_ema"))
    )
    assert described.selection == Selection("model_ema", None)
    checkpoint, plan = steps._read(SourceSpec(given.path, "rgb", 0, 1, builder="a:b", selection=described.selection))
    SourceNetwork(plan, checkpoint.weights, checkpoint.stored)
