"""What was measured and chosen, as it is kept: one file for each machine and model."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from models.digests import value_digest
from models.directories import make_directory, write_text
from models.runtime.loading import Engine, RuntimeOptions
from models.runtime.session import Device, Precision

_VERSION = 2  # 1 let detectors take several photos at once on a CPU


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a graph.

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
    """How fast a way is with a batch.

    Attributes:
        way: How the graph ran.
        batch: Pictures of one run.
        rate: Pictures a second, all streams busy; median of the rounds.
        latency_ms: Of one run, all streams busy.
    """

    way: Way
    batch: int
    rate: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class GraphTuning:
    """What was chosen for a graph.

    Attributes:
        way: How to run it.
        largest: Most pictures of one run; more do not pay.
        timings: All that was measured.
        left_out: Why ways were not measured, or not chosen although they were fast.
    """

    way: Way
    largest: int
    timings: tuple[Timing, ...]
    left_out: tuple[str, ...]

    @property
    def chosen(self) -> Timing:
        """What was measured of the choice."""
        return next(one for one in self.timings if (one.way, one.batch) == (self.way, self.largest))


class Subject(NamedTuple):
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
    def key(self) -> str:
        """Name of the file."""
        return value_digest(self._asdict())[:32]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen for a machine and a model.

    Attributes:
        subject: The two.
        measured_at: When, in UTC.
        recognizer, detector: What was chosen.
    """

    subject: Subject
    measured_at: str
    recognizer: GraphTuning
    detector: GraphTuning


def keep_tuning(directory: Path, tuning: Tuning) -> Path:
    """Write a choice, whole or not at all, in the place of an earlier one.

    Raises:
        StorageFailed: The file system refused.
    """
    make_directory(directory)
    path = directory / f"{tuning.subject.key}.json"
    content = {**asdict(tuning), "version": _VERSION, "subject": tuning.subject._asdict()}
    write_text(path, json.dumps({**content, "digest": value_digest(_plain(content))}, indent=1) + "\n")
    return path


def find_tuning(directory: Path, subject: Subject) -> Tuning | None:
    """Read the choice for a machine and model; None if there is none that can be used."""
    try:
        content = json.loads((directory / f"{subject.key}.json").read_text())
        digest = content.pop("digest")
        if digest != value_digest(content) or content.pop("version") != _VERSION:
            return None
        if Subject(**content["subject"]) != subject:  # whatever the file is called
            return None
        graphs = _graph_tuning(content["recognizer"]), _graph_tuning(content["detector"])
        return Tuning(subject, str(content["measured_at"]), *graphs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _graph_tuning(content: dict[str, Any]) -> GraphTuning:
    timings = tuple(Timing(**{**timing, "way": Way(**timing["way"])}) for timing in content["timings"])
    tuned = GraphTuning(Way(**content["way"]), content["largest"], timings, tuple(content["left_out"]))
    way = tuned.way
    known = way.engine in get_args(Engine) and way.precision in get_args(Precision) and way.device in get_args(Device)
    whole = all(type(number) is int and number >= 0 for number in (way.threads, way.streams - 1, tuned.largest - 1))
    measured = all(0 < one.rate < math.inf and 0 < one.latency_ms < math.inf for one in timings)
    if not (known and whole and measured) or not any((one.way, one.batch) == (way, tuned.largest) for one in timings):
        raise ValueError("this is no choice that was measured")
    return tuned


def _plain(content: dict[str, Any]) -> Any:
    """Return it as it will be read back: tuples are lists there."""
    return json.loads(json.dumps(content))
