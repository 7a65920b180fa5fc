"""Networks are identified by an exact match of keys and shapes."""

import time

import numpy as np
import pytest

from models.backbones import Plan, adaface_ir, iresnet, locate, mobilefacenet, recognise, vit
from models.backbones.catalogue import expected_shapes
from models.checkpoint.keys import unwrapped
from models.errors import ArchitectureUnknown, CheckpointAmbiguous, LandmarksNeeded

KNOWN = [*iresnet.KNOWN, *adaface_ir.KNOWN, *mobilefacenet.KNOWN, *vit.KNOWN]

# Number of entries in the state dict of the official code, and millions of floating-point values in it.
SIZES = {
    "iresnet-100": (925, 65.2),
    "ir-18": (179, 24.0),
    "ir-34": (323, 34.2),
    "ir-50": (467, 43.6),
    "ir-101": (917, 65.2),
    "ir-se-50": (515, 43.8),
    "ir-se-101": (1015, 65.6),
    "vit-t": (150, 19.1),
    "vit-s": (150, 76.0),
    "vit-b": (282, 113.8),
    "vit-l": (282, 255.7),
    "vit-h": (546, 756.4),
    "vit-small": (149, 96.0),
    "vit-base": (281, 114.9),
}


@pytest.fixture(scope="module")
def shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    return {plan.architecture: expected_shapes(plan) for plan in KNOWN}


@pytest.mark.parametrize("plan", KNOWN, ids=lambda plan: plan.architecture)
def test_every_known_network_is_recognised(plan: Plan, shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    found = recognise(shapes[plan.architecture])
    assert (found.family, found.architecture, found.template) == (plan.family, plan.architecture, plan.template)


@pytest.mark.parametrize("name", SIZES)
def test_networks_have_the_official_size(name: str, shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    entries, millions = SIZES[name]
    counters = [key for key in shapes[name] if key.endswith("num_batches_tracked")]
    values = sum(int(np.prod(shape)) for key, shape in shapes[name].items() if key not in counters)
    assert len(shapes[name]) == entries
    assert values / 1e6 == pytest.approx(millions, abs=0.051)


@pytest.mark.parametrize(
    "plan",
    [
        iresnet.plan((1, 2, 3, 1)),
        iresnet.plan((3, 4, 6, 3), dimensions=256),
        iresnet.plan((2, 2, 2, 2), reduction=8),
        adaface_ir.plan((1, 1, 5, 1), dimensions=128),
        adaface_ir.plan((2, 2, 2, 2), squeeze=True),
        mobilefacenet.arcface_plan(scale=1, depths=(1, 4, 6, 2), dimensions=256),
        mobilefacenet.arcface_plan(scale=3, depths=(2, 3, 4, 2)),
    ],
    ids=lambda plan: plan.architecture,
)
def test_other_depths_and_widths_of_a_family_are_recognised(plan: Plan) -> None:
    expected = expected_shapes(plan)
    found = recognise(expected)
    assert found.architecture == plan.architecture
    assert expected_shapes(found) == expected


def test_batch_counters_may_be_missing(shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    bare = {key: shape for key, shape in shapes["ir-18"].items() if not key.endswith("num_batches_tracked")}
    assert recognise(bare).architecture == "ir-18"


@pytest.mark.parametrize("name", ["iresnet-50", "ir-18", "mbf", "mobilefacenet-112x96", "vit-t"])
def test_a_missing_or_extra_layer_or_another_size_is_named(
    name: str, shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    intact = shapes[name]
    key = [key for key in intact if key.endswith("weight")][-3]
    missing = {other: shape for other, shape in intact.items() if other != key}
    for changed, sentence in (
        (missing, f"{key} is missing"),
        ({**intact, "added.weight": (3,)}, "added.weight is not part of it"),
        ({**intact, key: (*intact[key][:-1], intact[key][-1] + 1)}, f"{key} is "),
    ):
        with pytest.raises(ArchitectureUnknown) as caught:
            recognise(changed)
        assert f"the nearest is {name}" in str(caught.value)
        assert sentence in str(caught.value)
        assert "--builder" in str(caught.value)
        assert "vultus import" in str(caught.value)


def test_a_wrong_embedding_size_is_named(shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    with pytest.raises(ArchitectureUnknown, match=r"features\.weight is 256 instead of 512"):
        recognise({**shapes["iresnet-18"], "features.weight": (256,)})


def test_names_no_nearest_network_for_unrelated_weights_but_some_of_their_keys() -> None:
    with pytest.raises(ArchitectureUnknown, match=r"they share no weight with any; their keys include stem\.kernel; "):
        recognise({"stem.kernel": (10, 10)})


@pytest.mark.parametrize("before", ["encoder.", "ema._orig_mod.", "module.student.backbone."])
def test_finds_the_nearest_network_under_any_prefix(before: str, shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    prefixed = {**{before + key: shape for key, shape in shapes["mbf"].items()}, "criterion.weight": (3,)}
    del prefixed[f"{before}conv_sep.layers.1.bias"]
    with pytest.raises(ArchitectureUnknown) as caught:
        recognise(prefixed)
    shown = before.replace("_orig_mod.", "").replace("module.", "")
    assert f"the nearest is mbf, under the prefix {shown}, but conv_sep.layers.1.bias is missing;" in str(caught.value)


def test_the_nearest_network_is_the_one_that_shares_the_most_weights(
    shapes: dict[str, dict[str, tuple[int, ...]]],
) -> None:
    """An iresnet-200 holds all keys of an iresnet-100, so the number of shared keys alone would not decide."""
    for name in ("iresnet-18", "iresnet-100", "ir-50", "vit-s"):
        found = {f"net.{key}": shape for key, shape in shapes[name].items() if "1.0.bn1" not in key}
        found["net.added.kernel"] = (3,)
        with pytest.raises(ArchitectureUnknown, match=rf"the nearest is {name}, under the prefix net\., but "):
            recognise(found)


def test_weights_flattened_by_fsdp_are_named() -> None:
    with pytest.raises(ArchitectureUnknown, match="FULL_STATE_DICT"):
        recognise({"_fsdp_wrapped_module._flat_param": (1000,)})


def between(shapes: dict[str, tuple[int, ...]], wrapper: str, depth: int) -> dict[str, tuple[int, ...]]:
    """Insert the name of a wrapper into every key that has more components than `depth`."""
    parts = {key: key.split(".") for key in shapes}
    return {
        ".".join([*part[:depth], wrapper, *part[depth:]]) if len(part) > depth else key: shapes[key]
        for key, part in parts.items()
    }


@pytest.mark.parametrize("name", ["iresnet-18", "ir-18", "mbf", "mobilefacenet-112x96", "vit-small"])
@pytest.mark.parametrize(
    ("wrapper", "depth"),
    [
        *(("_orig_mod", 0), ("_orig_mod", 1), ("_orig_mod", 2), ("_fsdp_wrapped_module", 1), ("module", 2)),
        *(("_checkpoint_wrapped_module", 1), ("_fsdp_wrapped_module._checkpoint_wrapped_module", 2)),
    ],
)
def test_the_names_of_wrappers_are_taken_away_anywhere_in_a_key(
    name: str, wrapper: str, depth: int, shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    wrapped = between(shapes[name], wrapper, depth)
    (found,) = locate(wrapped)
    assert found.keys.keys() == shapes[name].keys()
    assert set(found.keys.values()) == wrapped.keys()
    assert found.prefix == ("" if depth else f"{wrapper}.")


def test_a_component_that_only_contains_the_name_of_a_wrapper_stays() -> None:
    assert unwrapped("submodule.modules.my_orig_mod.weight") == "submodule.modules.my_orig_mod.weight"


@pytest.mark.parametrize("prefix", ["encoder.", "features.module.", "student.backbone.", "a.b.c.d.e.f.", "arcface."])
@pytest.mark.parametrize("head", ["arcface.weight", "metric_fc.weight", "loss_fn.W", "fc.weight", "anything.at.all"])
def test_a_network_under_any_prefix_is_found_and_what_lies_beside_it_is_passed_over(
    prefix: str, head: str, shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    beside = {f"other.{head}": (100, 512), "n_averaged": ()}
    (found,) = locate({**beside, **{prefix + key: shape for key, shape in shapes["mbf"].items()}})
    assert found.prefix == prefix
    assert found.keys == {key: prefix + key for key in shapes["mbf"]}


@pytest.mark.parametrize(
    "head", ["head.kernel", "arcface.weight", "metric_fc.weight", "loss_fn.W", "partial_fc.weight"]
)
def test_a_head_with_a_usual_name_may_lie_among_the_keys_of_the_network(
    head: str, shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    for prefix in ("", "model."):
        prefixed = {prefix + key: shape for key, shape in shapes["mbf"].items()}
        (found,) = locate({**prefixed, prefix + head: (512, 100)})
        assert found.keys.keys() == shapes["mbf"].keys()


def test_several_networks_are_found_each_without_the_keys_of_the_others(
    shapes: dict[str, dict[str, tuple[int, ...]]],
) -> None:
    outer, inner, other = shapes["mbf"], shapes["iresnet-18"], shapes["ir-18"]
    found = locate(
        {
            **outer,
            **{f"module.{key}": shape for key, shape in inner.items()},
            **{f"teacher.{key}": shape for key, shape in other.items()},
        }
    )
    assert [network.prefix for network in found] == ["", "module.", "teacher."]
    assert [network.keys.keys() for network in found] == [outer.keys(), inner.keys(), other.keys()]


def test_two_keys_that_differ_in_the_names_of_wrappers_only_are_refused(
    shapes: dict[str, dict[str, tuple[int, ...]]],
) -> None:
    doubled = {**shapes["mbf"], "features.module.layers.3.bias": (512,)}
    with pytest.raises(
        CheckpointAmbiguous, match=r"features\.layers\.3\.bias and features\.module\.layers\.3\.bias are"
    ):
        locate(doubled)


def test_keys_that_a_malicious_file_may_hold_take_linear_time_and_stay_readable() -> None:
    long = {"x" * 10**6 + ".fc.weight": (2,), "a." * 500_000 + "layer1.0.conv1.weight": (2,), "module." * 10**5: (2,)}
    anchors = {f"a{number}.layer1.0.conv1.weight": (2,) for number in range(20_000)}
    for keys in (long, anchors, {"\x1b[31m\n\0": (2,)}):
        start = time.monotonic()
        with pytest.raises(ArchitectureUnknown) as caught:
            recognise(keys)
        assert time.monotonic() - start < 5
        assert len(str(caught.value)) < 1000
        assert str(caught.value).isprintable()


def test_refuses_degenerate_shapes(shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    for name in ("ir-18", "iresnet-18", "mbf", "mobilefacenet-112x96", "vit-t"):
        weights = [key for key in shapes[name] if key.endswith("weight")]
        for key in {*weights[:3], *weights[-3:], *(key for key in weights if "res_layer.1" in key or "linear1" in key)}:
            for shape in ((), (0, 0), (3,)):
                with pytest.raises(ArchitectureUnknown):
                    recognise({**shapes[name], key: shape})


def test_refuses_kp_rpe_and_states_the_reason(shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    with pytest.raises(LandmarksNeeded, match="five landmarks as a second input"):
        recognise({**shapes["vit-base"], "keypoint_linear.weight": (16, 10)})


def test_refuses_a_transformer_of_unpublished_depth(shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """The shapes do not reveal the number of heads."""
    shallower = {key: shape for key, shape in shapes["vit-t"].items() if not key.startswith("blocks.11.")}
    with pytest.raises(ArchitectureUnknown, match="the nearest is vit-t"):
        recognise(shallower)
