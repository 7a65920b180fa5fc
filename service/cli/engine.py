"""`vultus engine`: build TensorRT engines for the GPU of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from models.artefact.integrity import open_artefact
from models.export.engines import build_engines
from models.export.tensorrt import LARGEST, Batches
from models.runtime.gpu import find_gpu, load_tensorrt
from models.runtime.tensorrt_engine import load_cuda, select_gpu
from service.cli.output import progress_bars, say
from service.settings import load_settings


def engine(
    artefact: Annotated[Path, typer.Argument(help="Directory of an exported artefact.")],
    gpu: Annotated[bool, typer.Option("--gpu", help="Build for the GPU of this machine; required.")] = False,
    device: Annotated[int, typer.Option(min=0, help="Number of the GPU, as the driver counts them.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=LARGEST, help="Batch size for which kernels are chosen.")] = 32,
    tf32: Annotated[bool, typer.Option("--tf32", help="Also build the float32 graph with TF32 products.")] = False,
) -> None:
    """Build TensorRT engines of an artefact. They are valid only for this GPU, its driver and this TensorRT.

    The engines are kept in the data directory, and the artefact does not change.
    """
    if not gpu:
        raise typer.BadParameter("TensorRT engines can only be built for a GPU; add --gpu")
    open_artefact(artefact)
    trt = load_tensorrt()
    found = find_gpu(device)
    select_gpu(load_cuda(), device)
    say(f"building engines for {found.name}; each engine takes several minutes")
    batches = Batches(common=batch)
    with progress_bars() as progress:
        built = build_engines(artefact, trt, found, load_settings().tensorrt_dir, progress, batches, tf32=tf32)
    for path in built:
        say(str(path))
