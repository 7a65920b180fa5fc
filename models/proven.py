"""Of the ways to run a recognizer, those that its proof covers."""

from dataclasses import replace
from typing import Any

from models.artefact import Card
from models.errors import ArtefactUnfit
from models.runtime.loading import RuntimeOptions, engines_for


def proven_runtime(card: Card, proof: dict[str, Any], wanted: RuntimeOptions) -> tuple[str, RuntimeOptions]:
    """Choose graph file, engine and arithmetic, of those that the artefact's proof covers.

    `auto` is bfloat16 where engine and processor have it and the proof allows it, else float32. What was proven on a
    CPU stands for the same engine on a GPU.

    Raises:
        ArtefactUnfit: What is wanted was not measured, or did not pass.
        EngineMissing: The engine that is asked for does not run on that device.
    """
    passed = {(row["precision"], row["engine"]) for row in proof["measured"] if row["passed"]}
    for engine in engines_for(wanted):
        proven = {kind for kind, proven_engine in passed if proven_engine == engine}
        if wanted.precision == "auto" and "fp32" in proven:
            only = wanted if "bf16" in proven else replace(wanted, precision="fp32")
            return card.graphs["fp32"], replace(only, engine=engine)
        if wanted.precision in proven:
            cpu_variant = wanted.precision == "int8" and wanted.device == "cpu" and "int8-cpu" in proven
            kind = "int8-cpu" if cpu_variant else "fp32" if wanted.precision == "bf16" else wanted.precision
            return card.graphs[kind], replace(wanted, engine=engine)
    there = ", ".join(f"{kind} on {engine}" for kind, engine in sorted(passed)) or "nothing"
    engines = " or ".join(engines_for(wanted))
    asked = "fp32" if wanted.precision == "auto" else wanted.precision
    raise ArtefactUnfit(
        f"{card.name} was not proven in {asked} on {engines}, so it is not served so; proven are {there}"
    )
