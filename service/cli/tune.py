"""`vultus tune`: find the fastest way to run the model on this machine; the service uses the result."""

from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from models.artefact.directories import make_directory
from models.artefact.integrity import open_artefact
from models.deadline import Deadline
from models.errors import ImageError, ImagesUnfit, ImageTooManyBytes, PackDamaged, PackMissing
from models.imaging import Photo
from models.packs import PackStore, find_manifest
from models.photo_folders import find_photos, read_photo
from models.pipeline import CroppedPhoto
from models.runtime.threads import limit_library_threads
from models.serving.models import Models
from models.serving.served import find_served
from models.serving.tuning import GraphTuning, Preference, Tuning, tune_graph, write_tuning
from models.serving.tuning.graphs import common_canvas, detector_tuning, recognizer_tuning, tuning_key
from models.synthetic import synthetic_pictures
from service.cli.output import out, progress_bars, say
from service.self_tuning import tune_if_untuned
from service.settings import Settings, load_settings
from service.startup import chosen_models, load_configured_models

_SYNTHETIC, _MAX_PHOTOS, _CANVASES = 16, 64, 4  # images
_DEFAULT_PHOTOS = "demo-photos"  # a pack


def tune(
    photos: Annotated[
        Path | None,
        typer.Option(help="Directory of photos with faces, to compare results on; default: the demonstration photos."),
    ] = None,
    prefer: Annotated[
        Preference,
        typer.Option(
            help="Which of similarly fast choices to use: the best for concurrent requests, or for a single request."
        ),
    ] = "throughput",
) -> None:
    """Find the fastest way to run the model on this machine.

    Engines, precisions, streams and batch sizes are measured; those that change results are excluded. Run it while
    the machine is idle. `vultus serve` uses the result until the processor, the engines or the model change.
    """
    limit_library_threads()
    settings = load_settings()
    make_directory(settings.tunings_dir)  # before the measurement: an unwritable directory is reported now
    models = load_configured_models(settings)
    store = PackStore(settings.packs_dir)
    served = find_served(store, chosen_models(settings, store))
    card, proof = open_artefact(served.recognizer)
    detection, device = settings.detection.options(), settings.runtime.options().device
    files = _photos(settings, photos)
    with closing(models):  # the measurement opens its own engines
        faces = _faces(models, files)
    canvases = _on_canvas(files, common_canvas(detection))
    recognizer = recognizer_tuning(served.recognizer, card, proof, device, faces)
    recognizer = replace(recognizer, engines=settings.runtime_options.engines)
    detector = detector_tuning(served.detector, detection, device, canvases)
    detector = replace(detector, engines=settings.runtime_options.engines)
    tunings: list[GraphTuning] = []
    for name, graph in (("recognizer", recognizer), ("detector", detector)):
        with progress_bars(one_line=True) as progress:

            def report(step: str, done: int, total: int | None, name: str = name) -> None:
                progress(f"{name}: {step}", done, total)

            tunings.append(tune_graph(graph, report, prefer))
    key = tuning_key(card, models.detector, detection, device)
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    tuning = Tuning(key, measured_at, tunings[0], tunings[1])
    for title, graph_tuning in ((card.name, tuning.recognizer), (models.detector.family, tuning.detector)):
        _print(title, graph_tuning)
    for reason in (*tuning.recognizer.excluded, *tuning.detector.excluded):
        say(f"excluded: {reason}")
    say(f"valid for {key.machine['cpu']}, {key.machine['cores']} cores")
    say(str(write_tuning(settings.tunings_dir, tuning)))


def tune_with_progress(settings: Settings, model: Path | None = None) -> Tuning | None:
    """Measure a model on this machine within seconds unless it was measured before, and show the progress.

    Args:
        settings: The settings of the service.
        model: Exported artefact; None for the configured model.

    Returns:
        See `tune_if_untuned`.

    Raises:
        VultusError: As `tune_if_untuned`.
    """
    with progress_bars(one_line=True) as progress:
        return tune_if_untuned(settings, model, progress)


def _photos(settings: Settings, directory: Path | None) -> list[bytes]:
    """Return the contents of the photos; empty if no directory is given and the demonstration photos are not fetched.

    Raises:
        ImagesUnfit: The directory does not exist, contains no photos, or cannot be read.
    """
    if directory is None:
        try:
            directory = PackStore(settings.packs_dir).verify(find_manifest(_DEFAULT_PHOTOS))
        except (PackMissing, PackDamaged):
            return []
    if not directory.is_dir():
        raise ImagesUnfit(f"{directory} is not a directory")
    try:
        files, passed_over = find_photos(directory)
        photos: list[bytes] = []
        for path in files[:_MAX_PHOTOS]:
            with suppress(ImageTooManyBytes):  # as photos that cannot be decoded
                photos.append(read_photo(path, settings.image.max_bytes))
    except OSError as error:
        raise ImagesUnfit(f"{error.filename} cannot be read: {error.strerror}") from error
    if not photos:
        because = f" ({passed_over})" if passed_over.counts else ""
        raise ImagesUnfit(f"{directory} contains no photos{because}")
    if passed_over.counts:
        say(str(passed_over))
    return photos


def _faces(models: Models, files: list[bytes]) -> NDArray[np.uint8]:
    """Return (N, H, W, 3) uint8, RGB: synthetic images, followed by all faces of the photos."""
    template = models.pipeline.template
    crops = [synthetic_pictures(_SYNTHETIC, template.height, template.width)]
    crops += [
        photo.crops for photo in models.pipeline.crop(files, "all", Deadline()) if isinstance(photo, CroppedPhoto)
    ]
    return np.concatenate(crops)


def _on_canvas(files: list[bytes], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (N, H, W, 3) uint8, RGB: photos scaled to a canvas, or one synthetic image if `files` is empty."""
    pixels: list[NDArray[np.uint8]] = []
    for file in files:
        with suppress(ImageError):  # `_faces` skips it as well
            pixels.append(Photo(file).raster().pixels)
        if len(pixels) == _CANVASES:
            break
    if files and not pixels:
        raise ImagesUnfit("none of the photos can be decoded")
    if not pixels:
        return synthetic_pictures(1, *size)
    return np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8) for image in pixels])


def _print(title: str, tuning: GraphTuning) -> None:
    choices = list(dict.fromkeys(timing.choice for timing in tuning.timings))
    batches = sorted({timing.batch for timing in tuning.timings})
    table = Table("engine", "precision", "streams x threads", *(f"batch {batch}" for batch in batches), box=None)
    table.title = f"{title}: images per second, all streams busy"
    for choice in choices:
        rates = {timing.batch: timing.rate for timing in tuning.timings if timing.choice == choice}
        chosen = tuning.largest if choice == tuning.choice else None
        cells = [f"{'* ' if batch == chosen else ''}{rates[batch]:.0f}" for batch in batches]
        table.add_row(choice.engine, choice.precision, f"{choice.streams} x {choice.threads // choice.streams}", *cells)
    out.print(table)
