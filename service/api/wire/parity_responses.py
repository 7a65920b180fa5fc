"""Schemas of the response on the parity proof of the served recognizer."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from models.artefact.form import has_type
from models.artefact.parity import MAX_SHIFT, MIN_SPREAD
from models.serving.models import Models
from service.api.wire.responses import ResponseModel


class ParityLimits(ResponseModel):
    """Limits of a precision, by which the proof was judged; `null` if a measure has none."""

    worst_relative_l2: Annotated[float | None, Field(description="Maximum relative L2 difference of a face.")] = None
    worst_cosine: Annotated[float | None, Field(description="Minimum cosine of a face.")] = None
    mean_cosine: Annotated[float | None, Field(description="Minimum of the mean cosine.")] = None
    norm_drift: Annotated[float | None, Field(description="Maximum relative difference of the norm of a face.")] = None


class ImpostorCheck(ResponseModel):
    """Whether different faces have become similar: statistics of the cosines between all pairs of different faces."""

    spread: Annotated[float, Field(description="Standard deviation of the cosines.")]
    reference_spread: Annotated[float, Field(description="The same of the reference.")]
    least_spread: Annotated[float, Field(description="Minimum of `spread`.")]
    mean: Annotated[float, Field(description="Mean of the cosines.")]
    reference_mean: Annotated[float, Field(description="The same of the reference.")]
    greatest_mean: Annotated[float, Field(description="Maximum of `mean`.")]


class LabelledScoreOut(ResponseModel):
    """Accuracy on a labelled set."""

    accuracy: Annotated[float | None, Field(description="10-fold accuracy over the pairs.")] = None
    fnmr: Annotated[
        float | None, Field(description="False non-match rate at the false match rate 1e-3; `null` for a small set.")
    ] = None


class ParityRow(ResponseModel):
    """The measurement of one precision on one engine; a measure is `null` if the engine failed."""

    precision: Annotated[str, Field(description="Precision of the graph; `int8-cpu` is the int8 graph for CPUs.")]
    engine: str
    version: Annotated[str | None, Field(description="Version of the engine.")]
    isa: Annotated[str | None, Field(description="Instruction set that the engine used, if the proof states it.")]
    runs: Annotated[bool, Field(description="Whether this row allows what runs.")]
    requested: Annotated[bool, Field(description="Whether the export requested it, so that it must pass.")]
    compared_with: Annotated[str | None, Field(description="Source network, or same graph in exact arithmetic.")]
    faces: Annotated[int | None, Field(description="Number of faces that were compared.")]
    worst_relative_l2: Annotated[
        float | None, Field(description="Largest |embedding - reference| / |reference| before normalisation.")
    ]
    mean_relative_l2: float | None
    worst_cosine: Annotated[float | None, Field(description="Smallest cosine between embedding and reference.")]
    mean_cosine: float | None
    norm_drift: Annotated[float | None, Field(description="Largest relative difference of the norms.")]
    impostors: ImpostorCheck | None
    flipped: Annotated[
        int | None, Field(description="Pairs of faces with another decision than the reference, at `threshold`.")
    ]
    pairs: Annotated[int | None, Field(description="All pairs of faces.")]
    threshold: float | None
    labelled: Annotated[LabelledScoreOut | None, Field(description="`null` if no labelled set was given.")]
    limits: ParityLimits
    passed: bool
    why: Annotated[list[str], Field(description="Reasons why the measurement failed; empty if it passed.")]

    @classmethod
    def of(cls, row: Mapping[str, Any], limits: ParityLimits, runs: bool) -> Self:
        """Convert a row of `parity.json`, in which proofs of earlier programs lack members."""
        pairs = _value(row, "pairs", int)
        return cls(
            precision=row["precision"],
            engine=row["engine"],
            version=_value(row, "version", str),
            isa=_value(row, "isa", str),
            runs=runs,
            requested=row.get("asked") is True,
            compared_with=_value(row, "compared_with", str),
            faces=None if pairs is None else _faces(pairs),
            norm_drift=_value(row, "worst_norm_drift", float),
            impostors=_impostors(row),
            labelled=_labelled(row.get("labelled")),
            limits=limits,
            passed=row["passed"],
            why=row.get("why", []),
            flipped=_value(row, "flipped", int),
            pairs=pairs,
            **{
                name: _value(row, name, float)
                for name in ("worst_relative_l2", "mean_relative_l2", "worst_cosine", "mean_cosine", "threshold")
            },
        )


class ParityResponse(ResponseModel):
    """How closely the graphs of the served recognizer reproduce its source network."""

    recognizer: str
    engine: Annotated[str, Field(description="Engine that runs; TensorRT is allowed by the row of ONNX Runtime.")]
    precision: Annotated[str, Field(description="Precision that runs; `tf32` is allowed by the row of `fp32`.")]
    reference: Annotated[dict[str, str], Field(description="Source network: file, SHA-256 and runtime.")]
    pictures: Annotated[str | None, Field(description="The faces on which embeddings were compared.")]
    labelled_set: Annotated[str | None, Field(description="Name of the labelled set, if one was given.")]
    labelled_reference: Annotated[LabelledScoreOut | None, Field(description="Score of the source network on it.")]
    passed: Annotated[bool, Field(description="Whether all requested precisions passed.")]
    rows: Annotated[list[ParityRow], Field(description="One for each precision and engine that was measured.")]

    @classmethod
    def of(cls, models: Models) -> Self:
        """Describe the proof of the served recognizer."""
        proof, labelled = models.proof, models.proof.get("labelled")
        reference = proof.get("reference")
        return cls(
            recognizer=models.recognizer.name,
            engine=models.embedder_session.engine,
            precision=models.embedder_session.precision,
            reference=reference if has_type(reference, dict[str, str]) else {},
            pictures=_value(proof, "pictures", str),
            labelled_set=_value(labelled, "set", str) if isinstance(labelled, dict) else None,
            labelled_reference=_labelled(labelled),
            passed=proof.get("passed") is True,
            rows=[
                ParityRow.of(
                    row, _limits(proof, row["precision"]), (row["precision"], row["engine"]) == models.proof_row
                )
                for row in proof.get("measured", [])
            ],
        )


def _value(record: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = record.get(name)
    return value if has_type(value, kind) else None


def _limits(proof: Mapping[str, Any], precision: str) -> ParityLimits:
    limits = proof.get("limits")
    found = limits.get(precision) if isinstance(limits, dict) else None
    if not isinstance(found, dict):
        return ParityLimits()
    return ParityLimits(**{name: _value(found, name, float) for name in ParityLimits.model_fields})


def _impostors(row: Mapping[str, Any]) -> ImpostorCheck | None:
    names = ("spread", "reference_spread", "mean_between", "reference_mean_between")
    found = [_value(row, name, float) for name in names]
    if any(value is None for value in found):
        return None
    spread, reference_spread, mean, reference_mean = found
    return ImpostorCheck(
        spread=spread,
        reference_spread=reference_spread,
        least_spread=MIN_SPREAD * reference_spread,
        mean=mean,
        reference_mean=reference_mean,
        greatest_mean=reference_mean + MAX_SHIFT,
    )


def _labelled(score: Any) -> LabelledScoreOut | None:
    if not isinstance(score, dict):
        return None
    return LabelledScoreOut(accuracy=_value(score, "accuracy", float), fnmr=_value(score, "fnmr_at_1e-3", float))


def _faces(pairs: int) -> int:
    """Return the number N of faces that have N (N - 1) / 2 pairs."""
    return (1 + math.isqrt(1 + 8 * max(0, pairs))) // 2
