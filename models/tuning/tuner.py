"""Time every way in which this machine can run a graph, check that it is still the same model, and choose.

Rates are of all streams busy at once, as they are in a service under load. Rounds are interleaved, so that noise meets
all ways alike, and the median counts.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import EngineError, InferenceFailed
from models.runtime import Session, open_session
from models.tuning.records import GraphTuning, Timing, Way

_ROUNDS = 3
_TIMED_S = 0.25
_HOPELESS = 0.5  # of the best rate of the first round: not measured again
_WORTH_PRECISION, _WORTH_STREAMS, _WORTH_BATCH = 1.05, 1.05, 1.03  # what a less exact, other, larger one must gain
_EXACTNESS = ("fp32", "fp16", "bf16", "int8")

Images = NDArray[np.uint8]
Check = Callable[[Way, Session], str | None]
Progress = Callable[[int, int, str], None]
Preference = Literal["throughput", "latency"]


@dataclass(frozen=True, slots=True)
class TunedGraph:
    """A graph and what to measure it with.

    Attributes:
        file: Way -> ONNX file, which may differ by precision.
        outputs: Names of its outputs.
        picture: (height, width) of a picture.
        ways: All that can be had here.
        batches: Sizes to try.
        check: Says why a session is not the same model any more; None if it is.
        engines: Where engines of TensorRT are kept.
        one_by_one: As `open_session` takes it.
    """

    file: Callable[[Way], Path]
    outputs: tuple[str, ...]
    picture: tuple[int, int]
    ways: Sequence[Way]
    batches: Sequence[int]
    check: Check
    engines: Path | None = None
    one_by_one: bool = False

    def open(self, way: Way) -> Session:
        """Load the graph as it will be served."""
        options = way.options(self.engines)
        return open_session(self.file(way), self.outputs, (self.picture,), options, one_by_one=self.one_by_one)


def tune_graph(graph: TunedGraph, progress: Progress, prefer: Preference = "throughput") -> GraphTuning:
    """Measure and choose.

    Args:
        graph: What to tune.
        progress: Told steps done, steps in all, and what is measured now.
        prefer: What counts among ways that are about as fast.

    Raises:
        InferenceFailed: Not one way runs and gives the same answers.
    """
    rates: dict[tuple[Way, int], list[float]] = {}
    left_out: dict[Way, str] = {}
    for turn in range(_ROUNDS):
        hopeful = [way for way in graph.ways if way not in left_out and (turn == 0 or _hopeful(way, rates))]
        for place, way in enumerate(hopeful):
            progress(turn * len(graph.ways) + place, _ROUNDS * len(graph.ways), _name(way))
            try:
                session = graph.open(way)
                why = graph.check(way, session) if turn == 0 else None
                if why is not None:
                    left_out[way] = why
                    continue
                for batch in graph.batches:
                    rates.setdefault((way, batch), []).append(_rate(session, batch, graph.picture, way.streams))
            except EngineError as error:
                left_out[way] = str(error)
    timings = [
        Timing(way, batch, round(median(found), 2), round(batch * way.streams / median(found) * 1000, 3))
        for (way, batch), found in rates.items()
        if way not in left_out
    ]
    reasons = tuple(f"{_name(way)}: {why}" for way, why in left_out.items())
    if not timings:
        raise InferenceFailed(f"no way to run the model can be used: {'; '.join(reasons)}")
    chosen = choose(timings, prefer)
    return GraphTuning(chosen.way, chosen.batch, tuple(timings), reasons)


def choose(timings: Sequence[Timing], prefer: Preference = "throughput") -> Timing:
    """Choose the fastest way, unless a more exact or smaller one is as good as that.

    Of ways that are about as fast, narrow streams serve many at once better, because the threads that decode and align
    beside them do not keep a whole run waiting; one wide stream answers a lone request sooner.

    Args:
        timings: At least one.
        prefer: What counts among ways that are about as fast.

    Returns:
        Of the way and the largest batch that pays.
    """
    best = {way: max(one.rate for one in timings if one.way == way) for way in {one.way for one in timings}}
    top = max(best.values())
    exact = min(_EXACTNESS.index(way.precision) for way, rate in best.items() if rate * _WORTH_PRECISION >= top)
    as_exact = {way: rate for way, rate in best.items() if _EXACTNESS.index(way.precision) <= exact}
    top = max(as_exact.values())
    way = max(
        (way for way, rate in as_exact.items() if rate * _WORTH_STREAMS >= top),
        key=lambda way: (way.streams if prefer == "throughput" else -way.streams, as_exact[way]),
    )
    own = [one for one in timings if one.way == way and one.rate * _WORTH_BATCH >= best[way]]
    return min(own, key=lambda one: one.batch)


def _hopeful(way: Way, rates: dict[tuple[Way, int], list[float]]) -> bool:
    best = max(max(found) for found in rates.values())
    return any(max(found) >= _HOPELESS * best for (other, _), found in rates.items() if other == way)


def _rate(session: Session, batch: int, picture: tuple[int, int], streams: int) -> float:
    """Return pictures a second with as many callers as there are streams."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *picture, 3), np.uint8)
    session.run(images)
    end = time.perf_counter() + _TIMED_S
    spent: list[float] = []
    errors: list[Exception] = []

    def call() -> None:
        runs, start = 0, time.perf_counter()
        try:
            while not runs or time.perf_counter() < end:
                session.run(images)
                runs += 1
        except EngineError as error:
            errors.append(error)
            return
        spent.append(runs * batch / (time.perf_counter() - start))

    callers = [threading.Thread(target=call) for _ in range(streams)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if errors:
        raise errors[0]
    return sum(spent)


def layouts(cores: int) -> Iterator[int]:
    """List how many streams may share so many cores: one wide one, one for each core, and one for each four."""
    yield from sorted({1, max(1, cores // 4), cores})


def _name(way: Way) -> str:
    streams = f"{way.streams} streams" if way.streams > 1 else "1 stream"
    return f"{way.engine} {way.precision} on {way.device}, {streams}"
