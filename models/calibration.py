"""From scores to operating points: what a threshold costs, as measured, with its uncertainty.

Words follow ISO/IEC 19795-1. The false match rate (FMR) of a threshold is the share of non-mated comparisons whose
similarity reaches it. Its interval is the exact one of C. Clopper and E. Pearson, Biometrika 26, 1934, at 95 %. It
takes comparisons as independent, which pairs that share a subject are not quite: the true interval is a little wider.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from models.digests import value_digest
from models.errors import CalibrationUnfit, OperatingPointUnknown

Decision = Literal["match", "no_match"]

MIN_ERRORS = 3  # fewer false matches than that and the rate is not measured, only bounded

_VERSION = 1
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and what it costs.

    Attributes:
        name: Such as `fmr_1e-3`.
        rate: False match rate, a share of non-mated comparisons in [0, 1].
        threshold: Similarity (cosine in [-1, 1]) from which on two faces match.
        interval: 95 % confidence interval of the rate.
        fnmr: False non-match rate that this threshold cost on the same data.
        measured_on: The data.
    """

    name: str
    rate: float
    threshold: float
    interval: tuple[float, float]
    fnmr: float
    measured_on: str

    def decide(self, similarity: float) -> Decision:
        """Say whether a similarity reaches the threshold."""
        return "match" if similarity >= self.threshold else "no_match"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Operating points of one embedding contract.

    Attributes:
        contract_id: The embeddings that were compared; the points mean nothing for others.
        default: Name of the point that is used when a request names none.
        points: Loosest first.
        conditions: Detector, engine, precision and policy with which it was measured, and the accuracy seen.
    """

    contract_id: str
    default: str
    points: tuple[OperatingPoint, ...]
    conditions: dict[str, Any]

    def point(self, wanted: str | float | None = None) -> OperatingPoint:
        """Find an operating point by name or by rate; the default one if none is wanted.

        Raises:
            OperatingPointUnknown: There is none of that name or rate.
        """
        wanted = self.default if wanted is None else wanted
        for point in self.points:
            if wanted == point.name or (isinstance(wanted, float) and np.isclose(wanted, point.rate, rtol=1e-6)):
                return point
        names = ", ".join(point.name for point in self.points)
        raise OperatingPointUnknown(f"there is no operating point {wanted!r}; measured ones are {names}")


def operating_point(
    non_mated: NDArray[np.float32], mated: NDArray[np.float32], rate: float, measured_on: str
) -> OperatingPoint:
    """Find the threshold of a false match rate.

    Args:
        non_mated: (N,) similarities of different subjects.
        mated: (M,) similarities of the same subject.
        rate: False match rate wanted; at least `MIN_ERRORS` of the N must be above the threshold.
        measured_on: The data, for people.

    Raises:
        CalibrationUnfit: There are too few non-mated comparisons for that rate.
    """
    errors = int(np.floor(rate * len(non_mated) + 1e-9))
    if errors < MIN_ERRORS:
        raise CalibrationUnfit(
            f"a false match rate of {rate:g} needs at least {int(np.ceil(MIN_ERRORS / rate))} non-mated comparisons; "
            f"there are {len(non_mated)}"
        )
    threshold = float(np.sort(non_mated)[-errors])
    errors = int((non_mated >= threshold).sum())
    return OperatingPoint(
        name=f"fmr_{rate:.0e}".replace("e-0", "e-"),
        rate=rate,
        threshold=threshold,
        interval=binomial_interval(errors, len(non_mated)),
        fnmr=float((mated < threshold).mean()),
        measured_on=measured_on,
    )


def binomial_interval(errors: int, trials: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) 95 % interval of a rate."""
    tail = (1 - _CONFIDENCE) / 2
    low = float(betaincinv(errors, trials - errors + 1, tail)) if errors else 0.0
    high = float(betaincinv(errors + 1, trials - errors, 1 - tail)) if errors < trials else 1.0
    return low, high


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration with a digest over its content."""
    content: dict[str, Any] = {"version": _VERSION, **asdict(calibration)}
    content["digest"] = value_digest(content)
    path.write_text(json.dumps(content, indent=2) + "\n")


def read_calibration(path: Path, contract_id: str) -> Calibration:
    """Read a calibration and check that it is whole and of this embedding contract.

    Raises:
        CalibrationUnfit: It is absent, altered, or was measured on other embeddings.
    """
    try:
        content = json.loads(path.read_text())
        intact = content.pop("digest") == value_digest(content)
        intact = content.pop("version") == _VERSION and intact
        points = tuple(
            OperatingPoint(**{**point, "interval": tuple(point["interval"])}) for point in content.pop("points")
        )
        calibration = Calibration(points=points, **content)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CalibrationUnfit(f"{path.name} cannot be read as a calibration") from error
    if not intact:
        raise CalibrationUnfit(f"{path.name} was altered after it was measured, or is of another version")
    if calibration.contract_id != contract_id:
        raise CalibrationUnfit(
            f"{path.name} was measured on embeddings of {calibration.contract_id}, this model gives {contract_id}"
        )
    return calibration
