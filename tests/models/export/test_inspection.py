"""The forms in which people's training code saves networks, described by `inspect_checkpoint`."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import Selection
from models.errors import (
    ArchitectureUnknown,
    CheckpointAmbiguous,
    CheckpointWithoutWeights,
    ExportError,
    WeightTypeUnsupported,
)
from models.export.inspection import inspect_checkpoint
from models.export.recognition import read_known
from models.export.steps import SourceSpec, _read, describe_checkpoint
from tests.checkpoints import small_iresnet, small_mobilefacenet, tensors, weights_for

WEIGHTS = weights_for(small_mobilefacenet())
OTHER = weights_for(small_mobilefacenet(), seed=1)
NAME = small_mobilefacenet().architecture
HEAD = torch.zeros(100, 8)
OPTIMIZER = {"state": {0: {"step": HEAD}}}


def under(prefix: str) -> "OrderedDict[str, torch.Tensor]":
    return tensors(WEIGHTS, prefix)


def assert_holds(path: Path, selection: Selection, weights: Any = WEIGHTS) -> None:
    checkpoint, plan = read_known(path, selection)
    assert plan.architecture == NAME
    assert checkpoint.weights.keys() == weights.keys()
    assert all(np.array_equal(checkpoint.weights[key], array) for key, array in weights.items())


FORMS: dict[str, tuple[Any, str]] = {
    "a state_dict alone": (under(""), "plain"),
    "torch.compile in DDP": (under("module._orig_mod."), "prefix module._orig_mod."),
    "AveragedModel of SWA": ({"n_averaged": torch.tensor(7), **under("module.")}, "prefix module."),
    "DeepSpeed": ({"module": under(""), "global_steps": 5, "ds_config": {}}, "member module"),
    "an EMA alone": ({"state_dict_ema": under("")}, "member state_dict_ema"),
    "an own prefix": (under("student.backbone."), "prefix student.backbone."),
    "Lightning with an own prefix": ({"state_dict": under("enc."), "epoch": 1}, "member state_dict, prefix enc."),
    "nested members": ({"checkpoint": {"state_dict": under("")}}, "member checkpoint.state_dict"),
    "an own member": ({"generator": under(""), "epoch": 1, "optimizer": OPTIMIZER}, "member generator"),
    "a list": ([under("")], "member 0"),
    "a tuple": ((under(""), {"epoch": 1}), "member 0"),
    "numpy arrays": (dict(WEIGHTS), "plain"),
    "parameters": ({key: torch.nn.Parameter(value, False) for key, value in under("").items()}, "plain"),
    "a model twice": ({"model": under(""), "state_dict": under("module.")}, "member model"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_network_is_found_in_every_form_without_a_hint(form: str, tmp_path: Path) -> None:
    content, expected = FORMS[form]
    torch.save(content, tmp_path / "a.pth")
    assert_holds(tmp_path / "a.pth", Selection())
    assert inspect_checkpoint(tmp_path / "a.pth")["form"] == expected


def test_wrappers_inside_the_keys_are_named(tmp_path: Path) -> None:
    wrapped = {key.replace("layers.", "layers._orig_mod.", 1): value for key, value in under("encoder.").items()}
    torch.save(wrapped, tmp_path / "a.pth")
    assert_holds(tmp_path / "a.pth", Selection())
    assert inspect_checkpoint(tmp_path / "a.pth")["form"] == "prefix encoder., wrappers _orig_mod"


@pytest.mark.parametrize("name", ["a", "model.safetensors", "model_best.pth.tar", "weights.PKL", "pytorch_model.bin"])
@pytest.mark.parametrize("written_as", ["zip", "before 1.6", "safetensors", "npz", "npz, compressed"])
def test_the_bytes_decide_what_a_file_is_and_its_name_does_not(name: str, written_as: str, tmp_path: Path) -> None:
    path = tmp_path / "written"
    if written_as == "safetensors":
        save_file(under(""), path)
    elif written_as.startswith("npz"):
        with path.open("wb") as stream:
            (np.savez_compressed if "compressed" in written_as else np.savez)(stream, allow_pickle=False, **WEIGHTS)
    else:
        torch.save(under(""), path, _use_new_zipfile_serialization=written_as == "zip")
    assert_holds(path.rename(tmp_path / name), Selection())


def test_what_lies_beside_the_network_is_listed_and_an_unusual_name_is_noted(tmp_path: Path) -> None:
    head = {"arcface.weight": HEAD, "projection.0.weight": HEAD}
    torch.save({"state_dict": {**under("model."), **head}, "teacher": {"conv.weight": HEAD}}, tmp_path / "a.pth")
    description = inspect_checkpoint(tmp_path / "a.pth")
    assert description["passed over"] == ["arcface.weight 100x8", "projection.0.weight 100x8"]
    assert description["other members"] == ["teacher"]
    (note,) = description["notes"]
    assert note == "the network under the prefix model. was taken; the file also holds projection.0.weight"


def test_names_that_a_file_chose_cannot_reach_the_terminal_and_long_lists_end(tmp_path: Path) -> None:
    many = {f"\x1b[31m{number}" + "x" * 1000: HEAD for number in range(60)}
    torch.save({**under("model."), **many}, tmp_path / "a.pth")
    description = inspect_checkpoint(tmp_path / "a.pth")
    assert len(description["passed over"]) == 51
    assert description["passed over"][-1] == "and 10 more"
    assert all(len(entry) < 100 and entry.isprintable() for entry in description["passed over"])


SEVERAL: dict[str, tuple[Any, str, Selection]] = {
    "model and model_ema": (
        {"model": under(""), "model_ema": tensors(OTHER)},
        "in the members model, model_ema; name one with --member",
        Selection(member="model_ema"),
    ),
    "state_dict beside the top level": (
        {**under(""), "ema": {"shadow": tensors(OTHER)}},
        'in the members "" (the top level), ema.shadow; name one with --member',
        Selection(member="ema"),
    ),
    "Lightning's model and its EMA": (
        {"state_dict": {**under("model."), **tensors(OTHER, "ema_model.module.")}},
        "with the prefix model., the prefix ema_model.module.; name one with --prefix",
        Selection(prefix="ema_model"),
    ),
    "a network and the same wrapped": (
        {**under(""), **tensors(OTHER, "module.")},
        'with no prefix (--prefix ""), the prefix module.; name one with --prefix',
        Selection(prefix="module."),
    ),
    "student and teacher in two members": (
        {"a": {**under("student.")}, "b": tensors(OTHER, "teacher.backbone.")},
        "a with the prefix student., b with the prefix teacher.backbone.; name one with --member and --prefix",
        Selection(prefix="teacher"),
    ),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_networks_are_listed_and_the_options_select_one(form: str, tmp_path: Path) -> None:
    content, sentence, selection = SEVERAL[form]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointAmbiguous) as caught:
        inspect_checkpoint(tmp_path / "a.pth")
    assert sentence in str(caught.value)
    assert_holds(tmp_path / "a.pth", selection, OTHER)


def test_an_empty_prefix_selects_the_network_without_one(tmp_path: Path) -> None:
    torch.save({**under(""), **tensors(OTHER, "module.")}, tmp_path / "a.pth")
    assert_holds(tmp_path / "a.pth", Selection(prefix=""))


def test_a_place_that_the_file_does_not_have_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    torch.save({"state_dict": under("model.")}, tmp_path / "a.pth")
    with pytest.raises(CheckpointWithoutWeights, match="no member ema with weights; members with weights: state_dict"):
        inspect_checkpoint(tmp_path / "a.pth", selection=Selection(member="ema"))
    with pytest.raises(CheckpointWithoutWeights, match=r"no key .* begins with ema\.; its keys begin with model\."):
        inspect_checkpoint(tmp_path / "a.pth", selection=Selection(prefix="ema"))


FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
OTHER_TYPES = ["float8_e8m0fnu", "float4_e2m1fn_x2", "complex64", "bool", "int8", "uint8", "uint16", "qint8", "quint8"]


def save_as(kind: str, form: str, path: Path) -> "OrderedDict[str, torch.Tensor]":
    """Save the network with its matrices in a type, and return it."""

    def cast(value: torch.Tensor) -> torch.Tensor:
        if kind.startswith("q"):
            return torch.quantize_per_tensor(value, 0.1, 0, getattr(torch, kind))
        if kind == "float4_e2m1fn_x2":
            return value.to(torch.uint8).view(torch.float4_e2m1fn_x2)
        return value.to(getattr(torch, kind))

    content = OrderedDict((key, cast(value) if value.ndim > 1 else value) for key, value in under("").items())
    if form == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return content


@pytest.mark.parametrize("kind", FLOAT8)
@pytest.mark.parametrize("form", ["zip", "before 1.6", "safetensors"])
def test_float8_weights_are_read_as_their_numbers(kind: str, form: str, tmp_path: Path) -> None:
    content = save_as(kind, form, tmp_path / "a.pth")
    checkpoint, _ = read_known(tmp_path / "a.pth", Selection())
    for key, value in content.items():
        np.testing.assert_array_equal(checkpoint.weights[key].astype(np.float32), value.float().numpy())
    assert inspect_checkpoint(tmp_path / "a.pth")["stored as"] == ["float32", kind]


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning", "ignore:.*quantiz.*:UserWarning")
@pytest.mark.parametrize("kind", OTHER_TYPES)
@pytest.mark.parametrize("form", ["zip", "before 1.6", "safetensors"])
def test_other_types_are_refused_by_name(kind: str, form: str, tmp_path: Path) -> None:
    if kind.startswith("q") and form == "safetensors":
        pytest.skip("safetensors has no quantised types")
    save_as(kind, form, tmp_path / "a.pth")
    shown = {"float8_e8m0fnu": "F8_E8M0", "float4_e2m1fn_x2": "F4", "complex64": "C64"}.get(kind, kind)
    shown = shown if form == "safetensors" else kind
    with pytest.raises(WeightTypeUnsupported, match=rf"the weight \S+\.weight is stored as {shown}, which is not"):
        inspect_checkpoint(tmp_path / "a.pth")


def test_a_head_of_another_type_does_not_matter(tmp_path: Path) -> None:
    torch.save({**under("model."), "classifier.weight": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "a.pth")
    assert_holds(tmp_path / "a.pth", Selection())


def test_whole_numbers_in_an_unknown_network_do_not_hide_the_nearest(tmp_path: Path) -> None:
    content = {**under(""), "attention.relative_position_index": torch.zeros(4, 4, dtype=torch.int64)}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ArchitectureUnknown, match="relative_position_index is not part of it"):
        inspect_checkpoint(tmp_path / "a.pth")


MAGFACE_HEAD = {"fc.weight": torch.zeros(32, 100)}  # a row for each number of the embedding, unlike nn.Linear


@pytest.mark.parametrize(
    ("head", "prefix", "color"),
    [
        (MAGFACE_HEAD, "features.module.", "bgr"),
        ({f"module.{key}": value for key, value in MAGFACE_HEAD.items()}, "module.features.", "bgr"),
        ({"module.parallel_fc.weight": torch.zeros(50, 32)}, "module.features.", "bgr"),
        ({"fc.weight": torch.zeros(100, 32)}, "features.module.", "rgb"),
        (MAGFACE_HEAD, "backbone.", "rgb"),
    ],
)
def test_the_form_of_magface_has_its_own_preprocessing_and_epsilon(
    head: dict[str, torch.Tensor], prefix: str, color: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": {**tensors(weights_for(small_iresnet()), prefix), **head}}, tmp_path / "a.pth")
    description = inspect_checkpoint(tmp_path / "a.pth")
    _, plan = read_known(tmp_path / "a.pth", Selection())
    norms = {
        module.eps for module in plan.build().modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    }
    assert description["color"] == color
    assert (description["mean"], description["std"]) == ((0, 255) if color == "bgr" else (127.5, 127.5))
    assert norms == ({2e-5} if color == "bgr" else {1e-5})
    assert any("--color bgr --mean 0 --std 255" in note for note in description["notes"]) == (
        color == "rgb" and "features" in prefix
    )


@pytest.mark.parametrize("prefix", ["features.module.", ""])
def test_the_preprocessing_of_magface_brings_its_epsilon_without_its_head(prefix: str, tmp_path: Path) -> None:
    whole, bare = tmp_path / "whole.pth", tmp_path / "bare.pth"
    weights = weights_for(small_iresnet())
    torch.save({"state_dict": {**tensors(weights, "features.module."), **MAGFACE_HEAD}}, whole)
    torch.save({"state_dict": tensors(weights, prefix)}, bare)
    stated = SourceSpec(bare, color="bgr", mean=0.0, std=255.0)
    network = _read(stated)[1].build()
    assert {item.eps for item in network.modules() if isinstance(item, torch.nn.BatchNorm2d)} == {2e-5}
    assert describe_checkpoint(stated).weights == describe_checkpoint(SourceSpec(whole)).weights
    others = [SourceSpec(bare, color="rgb"), SourceSpec(whole, color="rgb", mean=127.5, std=127.5)]
    assert len({describe_checkpoint(source).weights for source in others}) == 2, "other epsilons have other contracts"


def test_a_million_keys_of_an_unknown_file_end_in_a_short_sentence(tmp_path: Path) -> None:
    zero = torch.zeros(2)
    torch.save({f"layer{number}.bias": zero for number in range(30_000)}, tmp_path / "a.pth")
    with pytest.raises(ExportError, match="30000 weights, more than any network of a known family"):
        inspect_checkpoint(tmp_path / "a.pth")
