"""`vultus engine`: TensorRT engines for the GPU of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from models.artefact.integrity import open_artefact
from models.export.engines import add_engines
from models.runtime.gpu import find_gpu, load_tensorrt
from service.cli.output import progress_bars, say
from service.settings import load_settings


def engine(
    artefact: Annotated[Path, typer.Argument(help="Directory of an exported artefact.")],
    gpu: Annotated[bool, typer.Option("--gpu", help="Build for the GPU of this machine; required.")] = False,
) -> None:
    """Build TensorRT engines of an artefact. They are valid for this GPU and this version of TensorRT only."""
    if not gpu:
        raise typer.BadParameter("engines are built for GPUs only; add --gpu")
    open_artefact(artefact)
    trt = load_tensorrt()
    found = find_gpu()
    say(f"building for {found.name}; each engine takes minutes")
    with progress_bars() as progress:
        built = add_engines(artefact, trt, found, load_settings().data_dir / "tensorrt", progress)
    for path in built:
        say(str(path))
