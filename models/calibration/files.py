"""Read and write `calibration.json`.

The file holds the calibrations of one embedding contract, one for each condition under which it was measured, and a
digest of the content.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.artefact.card import NormStatistics
from models.artefact.digests import value_digest
from models.artefact.directories import write_text
from models.calibration.checks import check
from models.calibration.records import Bound, Calibration, Distribution, OperatingPoint, ScoreMap
from models.errors import CalibrationUnfit, StorageFailed
from models.quality import GeometryRange, QualityScale

_VERSION = 3  # 2: one condition, and bounds over pairs as if they were independent


def write_calibrations(path: Path, calibrations: Sequence[Calibration]) -> None:
    """Write the calibrations of one embedding contract atomically.

    Args:
        path: File to write.
        calibrations: At least one calibration; all have the same contract and differ in their conditions.

    Raises:
        StorageFailed: The file cannot be written.
    """
    content: dict[str, Any] = {
        "version": _VERSION,
        "contract_id": calibrations[0].contract_id,
        "measured": [_record(calibration) for calibration in calibrations],
    }
    content["digest"] = value_digest(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_calibrations(path: Path, contract_id: str) -> tuple[Calibration, ...]:
    """Read the calibrations of a file and check their values, the digest and the embedding contract.

    Args:
        path: File to read.
        contract_id: Embedding contract of the model that will use a calibration.

    Returns:
        At least one calibration.

    Raises:
        CalibrationUnfit: The file is missing, malformed, altered, of another version or measured for another embedding
            contract.
    """
    try:
        content = json.loads(path.read_text())
        intact = content.pop("digest") == value_digest(content)
        version = content.pop("version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CalibrationUnfit(f"{path.name} cannot be read as a calibration") from error
    if not intact:
        raise CalibrationUnfit(f"{path.name} was altered after it was written: its digest does not match")
    if version != _VERSION:
        raise CalibrationUnfit(
            f"{path.name} has version {version}; this program reads version {_VERSION}; run vultus calibrate again"
        )
    try:
        of_contract, measured = content.pop("contract_id"), content.pop("measured")
        calibrations = tuple(_calibration({"contract_id": of_contract, **one}) for one in measured)
        for calibration in calibrations:
            check(calibration)
        if content or not calibrations:
            raise ValueError("the file has unknown members or no calibration")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CalibrationUnfit(f"{path.name} cannot be read as a calibration") from error
    if of_contract != contract_id:
        raise CalibrationUnfit(
            f"{path.name} was measured for embedding contract {of_contract}; this model has {contract_id}"
        )
    return calibrations


def _record(calibration: Calibration) -> dict[str, Any]:
    record = asdict(calibration)
    record.pop("contract_id")
    if calibration.distribution is None:
        record.pop("distribution")
    seen = calibration.quality.seen
    record["quality"]["seen"] = seen._asdict() if seen else None
    return record


def _calibration(content: dict[str, Any]) -> Calibration:
    quality = content.pop("quality")
    distribution = content.pop("distribution", None)
    score_map = content.pop("score_map")
    return Calibration(
        points=tuple(_point(point) for point in content.pop("points")),
        bound=Bound(**content.pop("bound")),
        score_map=ScoreMap(**{**score_map, "knots": tuple((float(x), float(y)) for x, y in score_map["knots"])}),
        quality=QualityScale(
            **{
                **quality,
                "statistics": NormStatistics(**quality["statistics"]),
                "seen": GeometryRange(**quality["seen"]) if quality["seen"] else None,
            }
        ),
        distribution=None
        if distribution is None
        else Distribution(**{kind: tuple(counts) for kind, counts in distribution.items()}),
        **content,
    )


def _point(content: dict[str, Any]) -> OperatingPoint:
    for name in ("interval", "threshold_interval", "fnmr_interval", "fnmr_by_subject_interval"):
        if content[name] is not None:
            low, high = content[name]
            content[name] = (float(low), float(high))
    return OperatingPoint(**content)
