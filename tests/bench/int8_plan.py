"""`make ranges`: measure the recognizer of a pack on faces, and write the plan of its int8 graph."""

import argparse
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console

from models.artefact.card import EMBEDDER_GRAPH, Card, read_card
from models.deadline import Deadline
from models.export.precision.int8 import Quantizer
from models.graph.quantize import layers
from models.packs import PackStore, find_manifest
from models.packs.store import RECOGNIZER_DIRECTORY
from models.photo_folders import find_photos, read_photo
from models.pipeline import CroppedPhoto
from service.cli.output import progress_bars
from service.settings import load_settings
from service.startup import load_configured_models


def main() -> None:
    """Measure every nth photo, so that many people are among them."""
    parser = argparse.ArgumentParser(prog="make ranges")
    parser.add_argument("--lfw", type=Path, required=True, help="directory of LFW")
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = load_settings()
    directory = PackStore(settings.packs_dir).path(find_manifest(settings.pack)) / RECOGNIZER_DIRECTORY
    card, model = read_card(directory, Card), onnx.load(directory / EMBEDDER_GRAPH)
    files, _ = find_photos(arguments.lfw / "images")
    chosen = files[:: max(1, len(files) // arguments.photos)][: arguments.photos]
    models = load_configured_models(settings)
    outcomes = models.pipeline.crop(
        [read_photo(path, settings.image.max_bytes) for path in chosen], "central", Deadline()
    )
    models.close()
    faces = np.concatenate([outcome.crops for outcome in outcomes if isinstance(outcome, CroppedPhoto)])
    with progress_bars() as progress:
        quantizer = Quantizer(model, faces, 7, progress)
    first, *others = layers(model)  # the first layer has three channels and is fast in float32
    measured_on = f"{len(faces)} faces of LFW, deep-funneled"
    quantizer.plan(others, signed=False, weights=card.weights, measured_on=measured_on).write(arguments.out)
    Console().print(f"{len(others)} layers in int8, {first} in float32, measured on {measured_on}", highlight=False)


if __name__ == "__main__":
    main()
