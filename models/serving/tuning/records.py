"""What was measured and chosen, as it is kept: one file for each machine and model."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from models.artefact.digests import value_digest
from models.artefact.directories import make_directory, write_text
from models.runtime.loading import Engine, RuntimeOptions
from models.runtime.session import Device, Precision

_VERSION = 3  # 1 let detectors take several photos at once on a CPU; 2 had other member names


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """A choice to run a graph.

    Attributes:
        engine, device, precision, threads, streams: As in `RuntimeOptions`.
    """

    engine: Engine
    device: Device
    precision: Precision
    threads: int
    streams: int

    def options(self, engines: Path | None = None) -> RuntimeOptions:
        """Return the same as engines take it; `engines` is where those of TensorRT are kept."""
        return RuntimeOptions(self.engine, self.device, self.precision, self.threads, self.streams, engines)


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast a choice is with a batch.

    Attributes:
        choice: How the graph ran.
        batch: Pictures of one run.
        rate: Pictures a second, all streams busy; median of the rounds.
        latency_ms: Of one run, all streams busy.
    """

    choice: RuntimeChoice
    batch: int
    rate: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class GraphTuning:
    """What was chosen for a graph.

    Attributes:
        choice: How to run it.
        largest: Most pictures of one run; more do not pay.
        timings: All that was measured.
        excluded: Why choices were not measured, or not chosen although they were fast.
    """

    choice: RuntimeChoice
    largest: int
    timings: tuple[Timing, ...]
    excluded: tuple[str, ...]

    @property
    def chosen(self) -> Timing:
        """What was measured of the choice."""
        return next(one for one in self.timings if (one.choice, one.batch) == (self.choice, self.largest))


class TuningKey(NamedTuple):
    """What was tuned, and where: a choice for one is none for another.

    Attributes:
        machine: As `describe_machine` says.
        device: Where the graphs run.
        recognizer, detector: SHA-256 over the graphs.
        max_side_px: Longest side at which photos are looked at.
    """

    machine: dict[str, str]
    device: Device
    recognizer: str
    detector: str
    max_side_px: int

    @property
    def digest(self) -> str:
        """Name of the file that holds the choice."""
        return value_digest(self._asdict())[:32]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen for a machine and a model.

    Attributes:
        key: The two.
        measured_at: When, in UTC.
        recognizer, detector: What was chosen.
    """

    key: TuningKey
    measured_at: str
    recognizer: GraphTuning
    detector: GraphTuning


def write_tuning(directory: Path, tuning: Tuning) -> Path:
    """Write a choice, whole or not at all, in the place of an earlier one.

    Raises:
        StorageFailed: The file system refused.
    """
    make_directory(directory)
    path = directory / f"{tuning.key.digest}.json"
    content = {**asdict(tuning), "version": _VERSION, "key": tuning.key._asdict()}
    write_text(path, json.dumps({**content, "digest": value_digest(_plain(content))}, indent=1) + "\n")
    return path


def read_tuning(directory: Path, key: TuningKey) -> Tuning | None:
    """Read the choice for a machine and model; None if there is none that can be used."""
    try:
        content = json.loads((directory / f"{key.digest}.json").read_text())
        digest = content.pop("digest")
        if digest != value_digest(content) or content.pop("version") != _VERSION:
            return None
        if TuningKey(**content["key"]) != key:  # whatever the file is called
            return None
        graphs = _graph_tuning(content["recognizer"]), _graph_tuning(content["detector"])
        return Tuning(key, str(content["measured_at"]), *graphs)
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
    whole = all(
        type(number) is int and number >= 0 for number in (choice.threads, choice.streams - 1, tuned.largest - 1)
    )
    measured = all(0 < one.rate < math.inf and 0 < one.latency_ms < math.inf for one in timings)
    if not (known and whole and measured) or not any(
        (one.choice, one.batch) == (choice, tuned.largest) for one in timings
    ):
        raise ValueError("this is no choice that was measured")
    return tuned


def _plain(content: dict[str, Any]) -> Any:
    """Return it as it will be read back: tuples are lists there."""
    return json.loads(json.dumps(content))
