"""Which files of a repository are taken, by their paths alone."""

import pytest

from models.errors import HubFilesAmbiguous, HubNotFound
from models.export.hub.checkpoints import checkpoint_of, descriptions_of
from models.export.hub.packs import graphs_of
from models.hub import HubFile, Listing, parse_reference

ROOT = ("config.json", "files.txt", "model.safetensors", "models/__init__.py", "wrapper.py")
INNER = ("pretrained_model/config.yaml", "pretrained_model/model.pt", "pretrained_model/model.yaml")


def listing(*paths: str, text: str = "hf:o/r") -> Listing:
    return Listing(parse_reference(text), "0" * 40, {path: HubFile(path, None, None) for path in paths})


@pytest.mark.parametrize(
    ("text", "paths", "checkpoint", "descriptions"),
    [
        ("hf:o/r", (*ROOT, *INNER), "model.safetensors", ["config.json"]),
        ("hf:o/r", INNER, "pretrained_model/model.pt", ["pretrained_model/model.yaml"]),
        ("hf:o/r", ("model.safetensors", *INNER), "pretrained_model/model.pt", ["pretrained_model/model.yaml"]),
        ("hf:o/r/pretrained_model", (*ROOT, *INNER), "pretrained_model/model.pt", ["pretrained_model/model.yaml"]),
        (
            "hf:o/r/pretrained_model/model.pt",
            (*ROOT, *INNER),
            "pretrained_model/model.pt",
            ["pretrained_model/model.yaml"],
        ),
        ("hf:o/r", ("model.safetensors", "a.pth"), "model.safetensors", []),
        ("hf:o/r", ("pytorch_model.bin", "config.json"), "pytorch_model.bin", ["config.json"]),
        ("hf:o/r", ("backbone.pth", "backbone.yaml", "README.md"), "backbone.pth", ["backbone.yaml"]),
        ("hf:o/r/weights", ("weights/a.ckpt", "b.ckpt"), "weights/a.ckpt", []),
    ],
)
def test_the_checkpoint_is_that_of_a_known_form_with_its_description(
    text: str, paths: tuple[str, ...], checkpoint: str, descriptions: list[str]
) -> None:
    found = listing(*paths, text=text)
    assert checkpoint_of(found) == checkpoint
    assert descriptions_of(found, checkpoint) == descriptions


def test_several_checkpoints_are_listed_and_none_is_taken() -> None:
    with pytest.raises(HubFilesAmbiguous, match=r"may be a checkpoint: r100\.pth, r50\.pth; give one after a slash"):
        checkpoint_of(listing("r50.pth", "r100.pth", "README.md"))
    with pytest.raises(HubNotFound, match=r"no file that may be a checkpoint; it has: README\.md$"):
        checkpoint_of(listing("README.md", "model.py"))
    with pytest.raises(HubNotFound, match="nothing else than code"):
        checkpoint_of(listing("model.py"))
    with pytest.raises(HubNotFound, match=r"o/r has no file or folder b\.pth at commit 0{12}; it has: a\.pth"):
        checkpoint_of(listing("a.pth", text="hf:o/r/b.pth"))


def test_graphs_of_other_roles_are_not_downloaded() -> None:
    buffalo = listing("1k3d68.onnx", "2d106det.onnx", "det_10g.onnx", "genderage.onnx", "w600k_r50.onnx", "README.md")
    chosen, others = graphs_of(buffalo)
    assert chosen == {"det_10g.onnx": "det_10g.onnx", "w600k_r50.onnx": "w600k_r50.onnx"}
    assert others == ["1k3d68.onnx", "2d106det.onnx", "genderage.onnx"]


def test_graphs_in_folders_get_names_of_their_own() -> None:
    apart = ("detection/model.onnx", "recognition/model.onnx", "recognition/model.armnn")
    chosen, _ = graphs_of(listing(*apart))
    assert chosen == {
        "detection-model.onnx": "detection/model.onnx",
        "recognition-model.onnx": "recognition/model.onnx",
    }
    assert graphs_of(listing(*apart, text="hf:o/r/detection"))[0] == {"model.onnx": "detection/model.onnx"}
    assert graphs_of(listing(*apart, text="hf:o/r/detection/model.onnx"))[0] == {"model.onnx": "detection/model.onnx"}


def test_two_graphs_with_the_same_name_in_a_pack_are_refused() -> None:
    both = ("a/b.onnx", "a-b.onnx", "det.onnx", "rec.onnx")
    with pytest.raises(HubFilesAmbiguous, match=r"two graphs that would both be a-b\.onnx in a pack: a-b.*a/b\.onnx"):
        graphs_of(listing(*both))
    with pytest.raises(HubFilesAmbiguous, match=r"both be a-b\.onnx"):
        graphs_of(listing(*both), ("a-b.onnx", "rec.onnx"))
    assert set(graphs_of(listing(*both), ("det.onnx", "rec.onnx"))[0]) == {"det.onnx", "rec.onnx"}
    assert graphs_of(listing(*both, text="hf:o/r/a"))[0] == {"b.onnx": "a/b.onnx"}


def test_more_graphs_than_a_pack_need_to_be_named() -> None:
    many = listing(*(f"{number}.onnx" for number in range(7)))
    with pytest.raises(HubFilesAmbiguous, match=r"has 7 ONNX graphs, more than a pack; .* 0\.onnx, 1\.onnx"):
        graphs_of(many)
    assert graphs_of(many, ("1.onnx", "5.onnx"))[0] == {"1.onnx": "1.onnx", "5.onnx": "5.onnx"}
    with pytest.raises(HubNotFound, match=r"has no graph 9\.onnx; it has: 0\.onnx"):
        graphs_of(many, ("1.onnx", "9.onnx"))
    with pytest.raises(HubNotFound, match=r"no ONNX graph of a detector or a recognizer; it has: buffalo_l\.zip"):
        graphs_of(listing("buffalo_l.zip", "x.py"))
