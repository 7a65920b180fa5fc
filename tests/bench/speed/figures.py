"""Draw the two figures: latency over load, and throughput over batch size."""

from pathlib import Path

import matplotlib

from tests.bench.speed.recognizers import BATCHES, Speed
from tests.bench.speed.serving import Serving

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # imported after the backend is chosen
from matplotlib.lines import Line2D


def draw_latency(serving: Serving, path: Path) -> None:
    """Draw the latency percentiles of accepted requests over the rate at which requests are sent."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    outcomes = dict(sorted(serving.opened.items()))
    loads = [load * 100 for load in outcomes]
    for share, label in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        axes.plot(loads, [outcome.percentile(share) for outcome in outcomes.values()], "o-", label=label)
    for load, outcome in zip(loads, outcomes.values(), strict=True):
        refused = outcome.statuses.get(429, 0) / sum(outcome.statuses.values())
        if refused:
            point = (load, outcome.percentile(0.99))
            axes.annotate(f"{refused:.0%} refused", point, textcoords="offset points", xytext=(-8, -2), ha="right")
    axes.axvline(100, color="grey", linestyle=":", linewidth=1)
    axes.set(
        xlabel=f"requests sent (% of the capacity of {serving.capacity:.0f} per second)",
        ylabel="latency from the intended start (ms)",
        title="verification of two 0.25 MP photos at a constant rate",
    )
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_throughput(speeds: list[Speed], path: Path) -> None:
    """Draw faces per second over batch size, with one panel for each network."""
    names = list(dict.fromkeys(speed.network for speed in speeds))
    labels = list(dict.fromkeys(f"{speed.way}, {speed.precision}" for speed in speeds))
    colours = {label: f"C{number}" for number, label in enumerate(labels)}  # every panel uses the same colours
    figure, panels = plt.subplots(1, len(names), figsize=(4 * len(names), 4), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for speed in (entry for entry in speeds if entry.network == name):
            label = f"{speed.way}, {speed.precision}"
            axes.plot(BATCHES, [speed.rates[batch] for batch in BATCHES], "o-", color=colours[label], label=label)
        axes.set(xscale="log", xlabel="batch size", title=name)
        axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("faces per second")
    handles = [Line2D([], [], marker="o", color=colours[label], label=label) for label in labels]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
