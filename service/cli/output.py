"""Output of the commands: results on standard output, progress on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

from models.text import printable
from models.types import Progress

out = Console()
err = Console(stderr=True)


def say(text: str) -> None:
    """Print a line to standard output, without markup and without wrapping."""
    out.print(printable(text), highlight=False, soft_wrap=True, markup=False)


@contextmanager
def progress_bars(unit: Literal["items", "bytes"] = "items", one_line: bool = False) -> Iterator[Progress]:
    """Show a progress bar for each reported step until the block ends.

    Args:
        unit: Unit of the reported counts.
        one_line: Whether the bar of a new step replaces the bar of the previous step.

    Yields:
        The callback that reports progress.
    """
    amount = bars.DownloadColumn() if unit == "bytes" else bars.MofNCompleteColumn()
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        amount,
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=err, transient=not err.is_terminal) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def report(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                if one_line:
                    for task in tasks.values():
                        shown.remove_task(task)
                    tasks.clear()
                tasks[step] = shown.add_task(escape(printable(step)), total=total)
            shown.update(tasks[step], completed=done, total=total)

        yield report
