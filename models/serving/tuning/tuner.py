"""Time every choice in which this machine can run a graph, check that it is still the same model, and choose.

Rates are of all streams busy at once, as they are in a service under load. Rounds are interleaved, so that noise meets
all choices alike, and the median counts.
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
from models.serving.tuning.records import GraphTuning, RuntimeChoice, Timing
from models.types import Progress

_ROUNDS = 3
_TIMED_S = 0.25
_HOPELESS = 0.5  # of the best rate of the first round: not measured again
_WORTH_PRECISION, _WORTH_STREAMS, _WORTH_BATCH = 1.05, 1.05, 1.03  # what a less exact, other, larger one must gain
_EXACTNESS = ("fp32", "fp16", "bf16", "int8")

Images = NDArray[np.uint8]
Check = Callable[[RuntimeChoice, Session], str | None]
Preference = Literal["throughput", "latency"]


@dataclass(frozen=True, slots=True)
class TunedGraph:
    """A graph and what to measure it with.

    Attributes:
        file: RuntimeChoice -> ONNX file, which may differ by precision.
        outputs: Names of its outputs.
        picture: (height, width) of a picture.
        choices: All that can be had here.
        batches: Sizes to try.
        check: Says why a session is not the same model any more; None if it is.
        engines: Where engines of TensorRT are kept.
        one_by_one: As `open_session` takes it.
    """

    file: Callable[[RuntimeChoice], Path]
    outputs: tuple[str, ...]
    picture: tuple[int, int]
    choices: Sequence[RuntimeChoice]
    batches: Sequence[int]
    check: Check
    engines: Path | None = None
    one_by_one: bool = False

    def open(self, choice: RuntimeChoice) -> Session:
        """Load the graph as it will be served."""
        options = choice.options(self.engines)
        return open_session(self.file(choice), self.outputs, (self.picture,), options, one_by_one=self.one_by_one)


def tune_graph(graph: TunedGraph, progress: Progress, prefer: Preference = "throughput") -> GraphTuning:
    """Measure and choose.

    Args:
        graph: What to tune.
        progress: Called with what is measured, and the measurements done.
        prefer: What counts among choices that are about as fast.

    Raises:
        InferenceFailed: Not one choice runs and gives the same answers.
    """
    rates: dict[tuple[RuntimeChoice, int], list[float]] = {}
    excluded: dict[RuntimeChoice, str] = {}
    for turn in range(_ROUNDS):
        hopeful = [
            choice for choice in graph.choices if choice not in excluded and (turn == 0 or _hopeful(choice, rates))
        ]
        for place, choice in enumerate(hopeful):
            progress(_name(choice), turn * len(graph.choices) + place, _ROUNDS * len(graph.choices))
            try:
                session = graph.open(choice)
                why = graph.check(choice, session) if turn == 0 else None
                if why is not None:
                    excluded[choice] = why
                    continue
                for batch in graph.batches:
                    rates.setdefault((choice, batch), []).append(_rate(session, batch, graph.picture, choice.streams))
            except EngineError as error:
                excluded[choice] = str(error)
    timings = [
        Timing(choice, batch, round(median(found), 2), round(batch * choice.streams / median(found) * 1000, 3))
        for (choice, batch), found in rates.items()
        if choice not in excluded
    ]
    reasons = tuple(f"{_name(choice)}: {why}" for choice, why in excluded.items())
    if not timings:
        raise InferenceFailed(f"no choice to run the model can be used: {'; '.join(reasons)}")
    chosen = choose(timings, prefer)
    return GraphTuning(chosen.choice, chosen.batch, tuple(timings), reasons)


def choose(timings: Sequence[Timing], prefer: Preference = "throughput") -> Timing:
    """Select the fastest runtime choice, unless a more exact or smaller one is about as fast.

    Among choices that are about as fast, narrow streams serve concurrent requests better, because threads that decode
    and align beside them do not delay a whole run; one wide stream answers a single request sooner.

    Args:
        timings: At least one.
        prefer: What counts among choices that are about as fast.

    Returns:
        Of the choice and the largest batch that pays.
    """
    best = {
        choice: max(one.rate for one in timings if one.choice == choice) for choice in {one.choice for one in timings}
    }
    top = max(best.values())
    exact = min(_EXACTNESS.index(choice.precision) for choice, rate in best.items() if rate * _WORTH_PRECISION >= top)
    as_exact = {choice: rate for choice, rate in best.items() if _EXACTNESS.index(choice.precision) <= exact}
    top = max(as_exact.values())
    choice = max(
        (choice for choice, rate in as_exact.items() if rate * _WORTH_STREAMS >= top),
        key=lambda choice: (choice.streams if prefer == "throughput" else -choice.streams, as_exact[choice]),
    )
    own = [one for one in timings if one.choice == choice and one.rate * _WORTH_BATCH >= best[choice]]
    return min(own, key=lambda one: one.batch)


def _hopeful(choice: RuntimeChoice, rates: dict[tuple[RuntimeChoice, int], list[float]]) -> bool:
    best = max(max(found) for found in rates.values())
    return any(max(found) >= _HOPELESS * best for (other, _), found in rates.items() if other == choice)


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


def _name(choice: RuntimeChoice) -> str:
    streams = f"{choice.streams} streams" if choice.streams > 1 else "1 stream"
    return f"{choice.engine} {choice.precision} on {choice.device}, {streams}"
