"""Schemas of the response on the calibration that runs."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from models.calibration import DISTRIBUTION_BINS, Calibration, ScoreMap
from models.quality import QualityScale
from service.api.wire.responses import BoundOut, OperatingPointOut, QualityOut, ResponseModel, ScoreMapOut

Counts = Annotated[list[int], Field(min_length=DISTRIBUTION_BINS, max_length=DISTRIBUTION_BINS)]


class ScoreMapDetails(ScoreMapOut):
    """The whole map from similarity to log-likelihood ratio."""

    knots: Annotated[
        list[tuple[float, float]],
        Field(
            description="Similarity and natural logarithm of the likelihood ratio, ascending in both. The map is "
            "linear between knots and constant beyond them."
        ),
    ]
    measured_on: str

    @classmethod
    def of(cls, score_map: ScoreMap) -> Self:
        """Convert a score map of the inference core."""
        members = {name: getattr(score_map, name) for name in cls.model_fields if name != "knots"}
        return cls(**members, knots=list(score_map.knots))


class DistributionOut(ResponseModel):
    """How the similarities are distributed: 200 bins of the width 0.01, of which the first begins at -1."""

    mated: Annotated[Counts, Field(description="Comparisons of the same subject in each bin.")]
    non_mated: Annotated[Counts, Field(description="Comparisons of different subjects in each bin.")]


class DiscardCurve(ResponseModel):
    """Error versus discard: the false non-match rate without the comparisons of the lowest quality."""

    discarded: Annotated[list[float], Field(description="Proportion of mated comparisons that are discarded.")]
    fnmr: Annotated[list[float | None], Field(description="False non-match rate of the others.")]


class QualityEvidence(ResponseModel):
    """How well quality predicts false non-matches: of real faces, or together with those of a kind of degradation."""

    kind: Annotated[str, Field(description="`real`, or the degradation of the faces that are added to the real ones.")]
    spearman: Annotated[float | None, Field(description="Rank correlation of quality and mated similarity.")] = None
    spearman_least: Annotated[float | None, Field(description="Lower 95 % bound of the correlation.")] = None
    fnmr: Annotated[float | None, Field(description="False non-match rate of all mated comparisons.")] = None
    fnmr_with_a_fifth_discarded: Annotated[
        float | None, Field(description="The same without the fifth of the lowest quality.")
    ] = None
    errors: Annotated[int | None, Field(description="Number of false non-matches.")] = None
    curve: DiscardCurve | None = None


class QualityDetails(QualityOut):
    """The map from norm to quality, with the measurements by which it was validated or not."""

    norm_h: Annotated[float, Field(description="Concentration of the scale: it ends 1 / h deviations from the mean.")]
    evidence_threshold: Annotated[
        float | None, Field(description="Threshold of the false non-matches of the evidence; `null` without it.")
    ]
    evidence: list[QualityEvidence]

    @classmethod
    def of(cls, scale: QualityScale) -> Self:
        """Convert a scale of the inference core."""
        threshold = scale.evidence.get("threshold")
        return cls(
            **QualityOut.of(scale).model_dump(),
            norm_h=scale.statistics.h,
            evidence_threshold=threshold if isinstance(threshold, float) else None,
            evidence=_evidence(scale.evidence),
        )


class CalibrationResponse(ResponseModel):
    """The calibration that runs."""

    contract_id: Annotated[str, Field(description="Embedding contract for which it was measured.")]
    default_operating_point: str
    operating_points: Annotated[list[OperatingPointOut], Field(description="By descending false match rate.")]
    bound: Annotated[BoundOut, Field(description="Bound of the false match rate beyond the strictest operating point.")]
    score_map: ScoreMapDetails
    distribution: Annotated[
        DistributionOut | None, Field(description="`null` in calibrations of earlier versions of the program.")
    ]
    quality: QualityDetails
    conditions: Annotated[
        dict[str, bool | int | float | str],
        Field(description="Detector, engine, precision and policy of the measurement, and the amount of data."),
    ]
    mismatch: Annotated[
        str | None, Field(description="How these conditions differ from what runs, or `null` if they do not.")
    ]

    @classmethod
    def of(cls, calibration: Calibration, mismatch: str | None) -> Self:
        """Convert a calibration of the inference core."""
        bound, distribution = calibration.bound, calibration.distribution
        return cls(
            contract_id=calibration.contract_id,
            default_operating_point=calibration.default,
            operating_points=[OperatingPointOut.of(point) for point in calibration.points],
            bound=BoundOut(similarity=bound.similarity, fmr=bound.fmr),
            score_map=ScoreMapDetails.of(calibration.score_map),
            distribution=None
            if distribution is None
            else DistributionOut(mated=list(distribution.mated), non_mated=list(distribution.non_mated)),
            quality=QualityDetails.of(calibration.quality),
            conditions=calibration.conditions,
            mismatch=mismatch,
        )


def _evidence(evidence: Mapping[str, Any]) -> list[QualityEvidence]:
    """Return the evidence of each kind; what another program wrote in another form is left out."""
    found = []
    for kind, measured in evidence.items():
        if isinstance(measured, dict):
            try:
                found.append(QualityEvidence.model_validate({**measured, "kind": kind}))
            except ValidationError:
                continue
    return found
