"""`vultus engine`: TensorRT engines for the GPU of this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.artefact import open_artefact
from service.settings import load_settings

_out = Console()
_err = Console(stderr=True)


def engine(
    artefact: Annotated[Path, typer.Argument(help="Directory of an exported artefact.")],
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Build for the GPU of this machine; there are no other engines.")
    ] = False,
) -> None:
    """Build TensorRT engines of an artefact. They are valid for this GPU and this version of TensorRT only."""
    if not gpu:
        raise typer.BadParameter("engines are built for GPUs only; say so with --gpu")
    from models.export.engines import add_engines
    from models.runtime.gpu import find_gpu, load_tensorrt

    open_artefact(artefact)
    trt = load_tensorrt()
    found = find_gpu()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=not _err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=steps)
            bars.update(tasks[phase], completed=done, total=steps)

        def announce(name: str) -> None:
            tasks.clear()
            bars.console.print(f"building {name} for {found.name}; this takes minutes", highlight=False)

        caches = load_settings().data_dir / "tensorrt"
        built = add_engines(artefact, trt, found, caches, announce, show)
    for path in built:
        _out.print(f"{path}", highlight=False, soft_wrap=True)
