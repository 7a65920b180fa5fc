"""The conditions of a calibration, and the choice among calibrations of one contract that were measured under several.

Another precision changes similarities by some thousandths, so a calibration is exact only for the precision, engine and
detector that it was measured with. In float32, all engines give the same similarities to a hundred-thousandth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.calibration.records import Calibration

_FREE = ("engine_version",)  # conditions that differ between installations and change no similarity noticeably
_DECISIVE = ("precision", "detector_precision")  # conditions that change similarities most


def differences(calibration: Calibration, running: Mapping[str, Any]) -> dict[str, str]:
    """Return how the conditions of a calibration differ from what runs, by the name of the condition.

    Args:
        calibration: The calibration.
        running: Engine, precision and detector that run, with the keys of `Calibration.conditions`.
    """
    measured = calibration.conditions
    free = {*_FREE, "engine"} if measured.get("precision") == running.get("precision") == "fp32" else _FREE
    return {
        name: f"{name} {measured[name]}, now {value}"
        for name, value in running.items()
        if name not in free and measured.get(name, value) != value
    }


def not_measured_again(earlier: Sequence[Calibration], measured: Sequence[Calibration]) -> list[Calibration]:
    """Return the earlier calibrations whose precisions were not measured again."""
    again = [_precisions(calibration) for calibration in measured]
    return [calibration for calibration in earlier if _precisions(calibration) not in again]


def _precisions(calibration: Calibration) -> list[Any]:
    return [calibration.conditions.get(name) for name in _DECISIVE]


def closest(calibrations: Sequence[Calibration], running: Mapping[str, Any]) -> Calibration:
    """Return the calibration whose conditions differ least from what runs; among equal ones, the first.

    Args:
        calibrations: At least one calibration.
        running: Engine, precision and detector that run, with the keys of `Calibration.conditions`.
    """

    def distance(calibration: Calibration) -> tuple[int, int]:
        found = differences(calibration, running)
        return sum(name in found for name in _DECISIVE), len(found)

    return min(calibrations, key=distance)
