"""Read and write `calibration.json`, which holds a calibration and a digest of its content."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.artefact.card import NormStatistics
from models.artefact.digests import value_digest
from models.artefact.directories import write_text
from models.calibration.checks import check
from models.calibration.records import Bound, Calibration, OperatingPoint, ScoreMap
from models.errors import CalibrationUnfit, StorageFailed
from models.quality import GeometryRange, QualityScale

_VERSION = 2


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration atomically.

    Raises:
        StorageFailed: The file cannot be written.
    """
    content: dict[str, Any] = {"version": _VERSION, **asdict(calibration)}
    seen = calibration.quality.seen
    content["quality"]["seen"] = seen._asdict() if seen else None
    content["digest"] = value_digest(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_calibration(path: Path, contract_id: str) -> Calibration:
    """Read a calibration and check its values, its digest and its embedding contract.

    Args:
        path: File to read.
        contract_id: Embedding contract of the model that will use the calibration.

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
        calibration = _calibration(content)
        check(calibration)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CalibrationUnfit(f"{path.name} cannot be read as a calibration") from error
    if calibration.contract_id != contract_id:
        raise CalibrationUnfit(
            f"{path.name} was measured for embedding contract {calibration.contract_id}; this model has {contract_id}"
        )
    return calibration


def _calibration(content: dict[str, Any]) -> Calibration:
    quality = content.pop("quality")
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
        **content,
    )


def _point(content: dict[str, Any]) -> OperatingPoint:
    for name in ("interval", "threshold_interval", "fnmr_interval"):
        low, high = content[name]
        content[name] = (float(low), float(high))
    return OperatingPoint(**content)
