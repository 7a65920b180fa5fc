"""Fixtures of the export tests."""

from collections.abc import Iterator

import onnx
import pytest

from models.backbones import Plan
from models.export import network


@pytest.fixture(scope="session", autouse=True)
def trace_each_network_once() -> Iterator[None]:
    """Trace each known network only once per run, because tracing takes most of the time of an export."""
    traced: dict[tuple[str, ...], onnx.ModelProto] = {}
    original = network.graph_without_weights

    def graph_without_weights(plan: Plan) -> onnx.ModelProto:
        if plan.family == "own":
            return original(plan)
        key = (plan.family, plan.architecture, plan.template, repr(plan.build))
        if key not in traced:
            traced[key] = original(plan)
        copy = onnx.ModelProto()
        copy.CopyFrom(traced[key])
        return copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "graph_without_weights", graph_without_weights)
        yield
