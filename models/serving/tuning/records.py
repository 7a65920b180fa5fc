"""Stored tunings: the measurements and the choice, one file for each machine and model."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from models.artefact.digests import value_digest
from models.artefact.directories import make_directory, write_text
from models.runtime.loading import RuntimeOptions
from models.runtime.session import Device, Engine, Precision

_VERSION = 4  # version 1 allowed detectors a batch above one on a CPU; versions 2 and 3 had other members


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """One way to run a graph.

    Attributes:
        engine, device, precision, threads, streams: See `RuntimeOptions`.
    """

    engine: Engine
    device: Device
    precision: Precision
    threads: int
    streams: int

    def options(self, engines: Path | None = None) -> RuntimeOptions:
        """Return the choice as `RuntimeOptions`; `engines` is the directory for TensorRT engines."""
        return RuntimeOptions(self.engine, self.device, self.precision, self.threads, self.streams, engines)


@dataclass(frozen=True, slots=True)
class Timing:
    """Speed of a choice at one batch size.

    Attributes:
        choice: How the graph ran.
        batch: Number of images of one run.
        rate: Images per second with all streams busy; median of the rounds.
        latency_ms: Time of one run with all streams busy.
    """

    choice: RuntimeChoice
    batch: int
    rate: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class GraphTuning:
    """The choice for a graph and its measurements.

    Attributes:
        choice: How to run the graph.
        largest: Maximum number of images of one run; larger runs are not faster.
        timings: All measurements.
        excluded: Reasons why choices were excluded, each with the name of the choice.
    """

    choice: RuntimeChoice
    largest: int
    timings: tuple[Timing, ...]
    excluded: tuple[str, ...]

    @property
    def chosen(self) -> Timing:
        """The timing of the choice at its maximum batch."""
        return next(timing for timing in self.timings if (timing.choice, timing.batch) == (self.choice, self.largest))


class TuningKey(NamedTuple):
    """The machine and the models that a tuning is valid for.

    Attributes:
        machine: The machine, see `describe_machine`.
        device: Device that runs the graphs.
        recognizer, detector: SHA-256 over the graphs of each model.
        max_side_px: Longest side in pixels to which the detector scales photos.
    """

    machine: dict[str, str]
    device: Device
    recognizer: str
    detector: str
    max_side_px: int

    @property
    def digest(self) -> str:
        """Name of the tuning's file, without extension."""
        return value_digest(self._asdict())[:32]


@dataclass(frozen=True, slots=True)
class Tuning:
    """The choices for a machine and a model.

    Attributes:
        key: Machine and model.
        measured_at: Time of the measurement in UTC.
        recognizer, detector: Choices for the two graphs.
        thorough: Whether `vultus tune` measured every choice in several rounds, instead of some once within seconds.
    """

    key: TuningKey
    measured_at: str
    recognizer: GraphTuning
    detector: GraphTuning
    thorough: bool = True


def write_tuning(directory: Path, tuning: Tuning) -> Path:
    """Write a tuning atomically, replacing an earlier one, and return its path.

    Raises:
        StorageFailed: The file system refused the write.
    """
    make_directory(directory)
    path = directory / f"{tuning.key.digest}.json"
    content = {**asdict(tuning), "version": _VERSION, "key": tuning.key._asdict()}
    write_text(path, json.dumps({**content, "digest": value_digest(_plain(content))}, indent=1) + "\n")
    return path


def read_tuning(directory: Path, key: TuningKey) -> Tuning | None:
    """Return the tuning for a machine and model, or None if no valid tuning is stored."""
    try:
        content = json.loads((directory / f"{key.digest}.json").read_text())
        digest = content.pop("digest")
        if digest != value_digest(content) or content.pop("version") != _VERSION:
            return None
        if TuningKey(**content["key"]) != key:  # the file may have been renamed
            return None
        graphs = _graph_tuning(content["recognizer"]), _graph_tuning(content["detector"])
        return Tuning(key, str(content["measured_at"]), *graphs, thorough=content["thorough"] is True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _graph_tuning(content: dict[str, Any]) -> GraphTuning:
    timings = tuple(Timing(**{**timing, "choice": RuntimeChoice(**timing["choice"])}) for timing in content["timings"])
    tuned = GraphTuning(RuntimeChoice(**content["choice"]), content["largest"], timings, tuple(content["excluded"]))
    choice = tuned.choice
    known = (
        choice.engine in get_args(Engine)
        and choice.precision in get_args(Precision)
        and choice.device in get_args(Device)
    )
    in_range = all(
        type(number) is int and number >= 0 for number in (choice.threads, choice.streams - 1, tuned.largest - 1)
    )
    finite = all(0 < timing.rate < math.inf and 0 < timing.latency_ms < math.inf for timing in timings)
    measured = any((timing.choice, timing.batch) == (choice, tuned.largest) for timing in timings)
    if not (known and in_range and finite and measured):
        raise ValueError("the choice was not measured")
    return tuned


def _plain(content: dict[str, Any]) -> Any:
    """Return the content as JSON reads it back, with lists instead of tuples."""
    return json.loads(json.dumps(content))
