"""The calibration of an embedding contract and the decisions that follow from it."""

from models.calibration.conditions import closest, differences, not_measured_again
from models.calibration.files import read_calibrations, write_calibrations
from models.calibration.records import (
    DEFAULT_RATE,
    DISTRIBUTION_BINS,
    MIN_ERRORS,
    Bound,
    Calibration,
    Decision,
    Distribution,
    OperatingPoint,
    ScoreMap,
)

__all__ = [
    "DEFAULT_RATE",
    "DISTRIBUTION_BINS",
    "MIN_ERRORS",
    "Bound",
    "Calibration",
    "Decision",
    "Distribution",
    "OperatingPoint",
    "ScoreMap",
    "closest",
    "differences",
    "not_measured_again",
    "read_calibrations",
    "write_calibrations",
]
