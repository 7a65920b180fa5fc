"""`vultus engine`: build TensorRT engines for the GPU of this machine."""

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
    """Build TensorRT engines of an artefact. The engines are valid only for this GPU and this version of TensorRT."""
    if not gpu:
        raise typer.BadParameter("TensorRT engines can only be built for a GPU; add --gpu")
    open_artefact(artefact)
    trt = load_tensorrt()
    found = find_gpu()
    say(f"building engines for {found.name}; each engine takes several minutes")
    with progress_bars() as progress:
        built = add_engines(artefact, trt, found, load_settings().tensorrt_dir, progress)
    for path in built:
        say(str(path))
