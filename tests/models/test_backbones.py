"""Networks are identified by an exact match of keys and shapes."""

import numpy as np
import pytest

from models.backbones import Plan, adaface_ir, iresnet, mobilefacenet, recognise, vit
from models.backbones.catalogue import expected_shapes
from models.errors import ArchitectureUnknown, LandmarksNeeded

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


def test_names_the_nearest_network_for_unrelated_weights() -> None:
    with pytest.raises(ArchitectureUnknown, match="the nearest is"):
        recognise({"encoder.weight": (10, 10)})


@pytest.mark.parametrize("prefix", ["encoder.", "ema."])
def test_finds_the_nearest_network_under_an_unknown_prefix(
    prefix: str, shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    prefixed = {**{prefix + key: shape for key, shape in shapes["mbf"].items()}, "criterion.weight": (3,)}
    with pytest.raises(ArchitectureUnknown) as caught:
        recognise(prefixed)
    assert f"the nearest is mbf, under the prefix {prefix}, but criterion.weight is not part of it" in str(caught.value)


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
