"""Measure every way to run a graph on this machine, check its outputs, and choose the fastest.

Rates are measured with all streams busy, as in a service under load. The rounds of the choices are interleaved, so that
noise affects all choices equally, and the median counts.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_TIMED_S, _QUICK_TIMED_S = 0.25, 0.1
_QUICK_BATCH = 8  # measured beside one image
_MIN_RELATIVE_RATE = 0.5  # of the best rate so far: slower choices are not measured again
_WORTH_PRECISION = 1.05  # speedup that justifies a lower precision
_WORTH_STREAMS = 1.05  # speedup that justifies streams other than preferred
_WORTH_BATCH = 1.03  # speedup that justifies a larger batch
_EXACTNESS = ("fp32", "fp16", "bf16", "int8")

Images = NDArray[np.uint8]
Check = Callable[[RuntimeChoice, Session], str | None]
Preference = Literal["throughput", "latency"]
_Rates = dict[tuple[RuntimeChoice, int], list[float]]
"""Images per second by choice and batch, one for each round."""


@dataclass(frozen=True, slots=True)
class TunedGraph:
    """A graph to tune, the choices to measure and the check of its outputs.

    Attributes:
        file: Function that returns the graph file of a choice, which may depend on the precision.
        outputs: Names of the outputs.
        picture: (height, width) of an image in pixels.
        choices: Choices to measure.
        batches: Batch sizes to measure.
        check: Function that returns why a session's outputs differ from the reference, or None if they agree.
        engines: Directory for TensorRT engines.
        single_image: Whether to optimise for one image per run, see `open_session`.
    """

    file: Callable[[RuntimeChoice], Path]
    outputs: tuple[str, ...]
    picture: tuple[int, int]
    choices: Sequence[RuntimeChoice]
    batches: Sequence[int]
    check: Check
    engines: Path | None = None
    single_image: bool = False

    def open(self, choice: RuntimeChoice) -> Session:
        """Load the graph with a choice, as it would be served."""
        options = choice.options(self.engines)
        return open_session(self.file(choice), self.outputs, (self.picture,), options, single_image=self.single_image)


def tune_graph(graph: TunedGraph, progress: Progress, prefer: Preference = "throughput") -> GraphTuning:
    """Measure the choices of a graph and return the best one.

    Args:
        graph: Graph to tune.
        progress: Called before each choice is measured, with its name, the number of steps done and the total.
        prefer: Preference among choices that are about equally fast.

    Raises:
        InferenceFailed: No choice runs and passes the check.
    """
    rates: _Rates = {}
    excluded: dict[RuntimeChoice, str] = {}
    for turn in range(_ROUNDS):
        candidates = [
            choice for choice in graph.choices if choice not in excluded and (turn == 0 or _is_candidate(choice, rates))
        ]
        for place, choice in enumerate(candidates):
            progress(_name(choice), turn * len(graph.choices) + place, _ROUNDS * len(graph.choices))
            _measure(graph, choice, graph.batches, _TIMED_S, rates, excluded, checked=turn > 0)
    return _tuning(rates, excluded, prefer)


def tune_graph_quickly(graph: TunedGraph, budget_s: float, progress: Progress) -> GraphTuning:
    """Measure the choices of a graph once, within a time, and return the best one.

    One choice of each engine and precision comes first, then the other numbers of streams of the fastest.

    Args:
        graph: Graph to tune.
        budget_s: Time in seconds. The first choice is always measured; another only if the longest measurement so far
            would end in time.
        progress: Called before each choice is measured, with its name, the number of choices done and the total.

    Raises:
        InferenceFailed: No choice runs and passes the check.
    """
    rates: _Rates = {}
    excluded: dict[RuntimeChoice, str] = {}
    batches = [batch for batch in graph.batches if batch in (1, _QUICK_BATCH)]
    end, longest = time.perf_counter() + budget_s, 0.0

    def measure(choices: Iterable[RuntimeChoice]) -> None:
        nonlocal longest
        for choice in choices:
            if rates and time.perf_counter() + longest > end:
                excluded[choice] = f"not measured within {budget_s:g} s"
                continue
            progress(_name(choice), len(rates) // len(batches), len(graph.choices))
            start = time.perf_counter()
            _measure(graph, choice, batches, _QUICK_TIMED_S, rates, excluded)
            longest = max(longest, time.perf_counter() - start)

    kinds = {(choice.engine, choice.precision): choice for choice in reversed(graph.choices)}
    measure(reversed(kinds.values()))
    if rates:
        fastest = max(rates, key=lambda measured: rates[measured][0])[0]
        same_kind = [
            choice
            for choice in graph.choices
            if (choice.engine, choice.precision) == (fastest.engine, fastest.precision) and choice != fastest
        ]
        measure(same_kind)
    return _tuning(rates, excluded, "throughput")


def _measure(
    graph: TunedGraph,
    choice: RuntimeChoice,
    batches: Sequence[int],
    timed_s: float,
    rates: _Rates,
    excluded: dict[RuntimeChoice, str],
    *,
    checked: bool = False,
) -> None:
    """Add the rates of a choice to `rates`, or the reason why it has none to `excluded`."""
    try:
        session = graph.open(choice)
        reason = None if checked else graph.check(choice, session)
        if reason is not None:
            excluded[choice] = reason
            return
        for batch in batches:
            rate = _rate(session, batch, graph.picture, choice.streams, timed_s)
            rates.setdefault((choice, batch), []).append(rate)
    except EngineError as error:
        excluded[choice] = str(error)


def _tuning(rates: _Rates, excluded: dict[RuntimeChoice, str], prefer: Preference) -> GraphTuning:
    timings = [
        Timing(choice, batch, round(median(measured), 2), round(batch * choice.streams / median(measured) * 1000, 3))
        for (choice, batch), measured in rates.items()
        if choice not in excluded
    ]
    reasons = tuple(f"{_name(choice)}: {reason}" for choice, reason in excluded.items())
    if not timings:
        raise InferenceFailed(f"no available engine runs the model correctly: {'; '.join(reasons)}")
    chosen = choose(timings, prefer)
    return GraphTuning(chosen.choice, chosen.batch, tuple(timings), reasons)


def choose(timings: Sequence[Timing], prefer: Preference = "throughput") -> Timing:
    """Select the fastest choice, unless a more exact choice or a smaller batch is about equally fast.

    Among choices that are about equally fast, many narrow streams serve concurrent requests better, because threads
    that decode and align then delay only one of the streams. A single wide stream answers a single request sooner.

    Args:
        timings: At least one timing.
        prefer: Preference among choices that are about equally fast.

    Returns:
        The timing of the choice at the smallest batch that is about as fast as its best.
    """
    best = {
        choice: max(timing.rate for timing in timings if timing.choice == choice)
        for choice in {timing.choice for timing in timings}
    }
    top = max(best.values())
    exact = min(_EXACTNESS.index(choice.precision) for choice, rate in best.items() if rate * _WORTH_PRECISION >= top)
    as_exact = {choice: rate for choice, rate in best.items() if _EXACTNESS.index(choice.precision) <= exact}
    top = max(as_exact.values())
    choice = max(
        (choice for choice, rate in as_exact.items() if rate * _WORTH_STREAMS >= top),
        key=lambda choice: (choice.streams if prefer == "throughput" else -choice.streams, as_exact[choice]),
    )
    fast = [timing for timing in timings if timing.choice == choice and timing.rate * _WORTH_BATCH >= best[choice]]
    return min(fast, key=lambda timing: timing.batch)


def _is_candidate(choice: RuntimeChoice, rates: _Rates) -> bool:
    """Return whether a choice is fast enough to be measured again."""
    best = max(max(measured) for measured in rates.values())
    return any(max(measured) >= _MIN_RELATIVE_RATE * best for (other, _), measured in rates.items() if other == choice)


def _rate(session: Session, batch: int, picture: tuple[int, int], streams: int, timed_s: float) -> float:
    """Return the images per second of all streams together, with one caller per stream."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *picture, 3), np.uint8)
    session.run(images)
    end = time.perf_counter() + timed_s
    rates: list[float] = []
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
        rates.append(runs * batch / (time.perf_counter() - start))

    callers = [threading.Thread(target=call) for _ in range(streams)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if errors:
        raise errors[0]
    return sum(rates)


def stream_counts(cores: int) -> Iterator[int]:
    """List the numbers of streams to try on `cores` cores: one stream, one per four cores, and one per core."""
    yield from sorted({1, max(1, cores // 4), cores})


def _name(choice: RuntimeChoice) -> str:
    streams = f"{choice.streams} streams" if choice.streams > 1 else "1 stream"
    return f"{choice.engine} {choice.precision} on {choice.device}, {streams}"
