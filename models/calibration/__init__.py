"""The calibration of an embedding contract and the decisions that follow from it."""

from models.calibration.files import read_calibration, write_calibration
from models.calibration.records import MIN_ERRORS, Bound, Calibration, Decision, OperatingPoint, ScoreMap

__all__ = [
    "MIN_ERRORS",
    "Bound",
    "Calibration",
    "Decision",
    "OperatingPoint",
    "ScoreMap",
    "read_calibration",
    "write_calibration",
]
