"""`vultus tune`: measure how this machine runs the model fastest; the service uses what is found."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.artefact import open_artefact
from models.assembly import Models
from models.cropping import CroppedPhoto
from models.directories import make_directory
from models.errors import ImageError, PackDamaged, PackMissing, PicturesUnfit
from models.imaging import SUFFIXES, Photo
from models.job import Job
from models.packs import PackStore, find_manifest
from models.packs.build import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY
from models.runtime.threads import leave_cores_to_engines
from models.synthetic import synthetic_pictures
from models.tuning import GraphTuning, Preference, Tuning, keep_tuning, tune_graph
from models.tuning.graphs import common_canvas, detector_to_tune, recognizer_to_tune, tuning_subject
from service.cli.serve import load_configured_models
from service.settings import Settings, load_settings

_DRAWN, _MOST_PHOTOS, _CANVASES = 16, 64, 4
_PHOTOS_OF_OURS = "demo-photos"

_out = Console()
_err = Console(stderr=True)


def tune(
    photos: Annotated[
        Path | None,
        typer.Option(help="Photos of faces to check answers on; without it those of the demonstration."),
    ] = None,
    prefer: Annotated[
        Preference, typer.Option(help="Of ways about as fast: those for many requests at once, or for a lone one.")
    ] = "throughput",
) -> None:
    """Measure engines, precisions, streams and batches on this machine, and keep the fastest that answers alike.

    Run it while the machine does nothing else. `vultus serve` uses what was found until processor, engines or model
    change.
    """
    leave_cores_to_engines()
    settings = load_settings()
    make_directory(settings.tunings_dir)  # now, not when all is measured
    models = load_configured_models(settings)
    pack = PackStore(settings.packs_dir).path(find_manifest(settings.pack))
    directory = settings.model or pack / RECOGNIZER_DIRECTORY
    card, proof = open_artefact(directory)
    detection, device = settings.detection.options(), settings.runtime.device
    files = _photos(settings, photos)
    faces, canvases = _faces(models, files), _on_canvas(files, common_canvas(detection))
    recognizer, left_out = recognizer_to_tune(directory, card, proof, device, faces, len(faces) > _DRAWN)
    recognizer = replace(recognizer, engines=settings.runtime_options.engines)
    detector = detector_to_tune(pack / DETECTOR_DIRECTORY, detection, device, canvases)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    found: list[GraphTuning] = []
    with Progress(*columns, console=_err, transient=True) as bars:
        for name, graph in (("recognizer", recognizer), ("detector", detector)):
            task = bars.add_task(name)

            def show(done: int, steps: int, way: str, name: str = name, task: int = task) -> None:
                bars.update(task, description=f"{name}: {way}", completed=done, total=steps)  # type: ignore[arg-type]

            found.append(tune_graph(graph, show, prefer))
            bars.remove_task(task)
    subject = tuning_subject(card, models.detector, detection, device)
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    tuning = Tuning(subject, measured_at, *found)
    for title, graph_tuning in ((card.name, tuning.recognizer), (models.detector.family, tuning.detector)):
        _print(title, graph_tuning)
    for why in (*left_out, *tuning.recognizer.left_out, *tuning.detector.left_out):
        _out.print(f"left out: {why}", highlight=False, soft_wrap=True)
    _out.print(f"kept for {subject.machine['cpu']}, {subject.machine['cores']} cores", highlight=False, soft_wrap=True)
    _out.print(str(keep_tuning(settings.tunings_dir, tuning)), highlight=False, soft_wrap=True)


def _photos(settings: Settings, directory: Path | None) -> list[bytes]:
    if directory is None:
        try:
            directory = PackStore(settings.packs_dir).verify(find_manifest(_PHOTOS_OF_OURS))
        except (PackMissing, PackDamaged):
            return []
    if not directory.is_dir():
        raise PicturesUnfit(f"{directory} is no directory")
    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise PicturesUnfit(f"{directory} has no photos")
    try:
        return [path.read_bytes() for path in files[:_MOST_PHOTOS]]
    except OSError as error:
        raise PicturesUnfit(f"{error.filename} cannot be read: {error.strerror}") from error


def _faces(models: Models, files: list[bytes]) -> NDArray[np.uint8]:
    """Return drawn pictures, and all faces of the photos."""
    template = models.pipeline.template
    crops = [synthetic_pictures(_DRAWN, template.height, template.width)]
    crops += [photo.crops for photo in models.pipeline.crop(files, "all", Job()) if isinstance(photo, CroppedPhoto)]
    return np.concatenate(crops)


def _on_canvas(files: list[bytes], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return photos in the size of a canvas, or a drawn picture if there are none."""
    pixels: list[NDArray[np.uint8]] = []
    for file in files:
        with suppress(ImageError):  # it has no faces either
            pixels.append(Photo(file).raster().pixels)
        if len(pixels) == _CANVASES:
            break
    if files and not pixels:
        raise PicturesUnfit("not one of the photos can be read as a picture")
    if not pixels:
        return synthetic_pictures(1, *size)
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8) for one in pixels])


def _print(title: str, tuning: GraphTuning) -> None:
    ways = list(dict.fromkeys(timing.way for timing in tuning.timings))
    batches = sorted({timing.batch for timing in tuning.timings})
    table = Table("engine", "precision", "streams x threads", *(f"batch {batch}" for batch in batches), box=None)
    table.title = f"{title}: pictures a second, all streams busy"
    for way in ways:
        rates = {timing.batch: timing.rate for timing in tuning.timings if timing.way == way}
        chosen = tuning.largest if way == tuning.way else None
        cells = [f"{'* ' if batch == chosen else ''}{rates[batch]:.0f}" for batch in batches]
        table.add_row(way.engine, way.precision, f"{way.streams} x {way.threads // way.streams}", *cells)
    _out.print(table)
