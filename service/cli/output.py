"""What commands print: results on standard output, progress on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

from models.types import Progress

out = Console()
err = Console(stderr=True)


def printable(text: str) -> str:
    """Replace what could steer a terminal; the text may hold names of files."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def say(text: str) -> None:
    """Print a line on standard output, without markup and without wrapping."""
    out.print(printable(text), highlight=False, soft_wrap=True, markup=False)


@contextmanager
def progress_bars(unit: Literal["items", "bytes"] = "items", one_line: bool = False) -> Iterator[Progress]:
    """Show a bar for each step that is reported.

    Args:
        unit: What the steps count.
        one_line: Whether a new step takes the place of the one before.
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
