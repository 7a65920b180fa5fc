"""`make bench-stored-quality`: false matches of strangers whose stored photos are blurred, by the strength of the blur.

The first photo of each of some people of LFW is blurred and indexed through the API of Rekognition without a filter.
Faces of quality 0 match nobody; counted are the pairs of the others that reach a similarity of 80, which is the
threshold of the default operating point.
"""

import argparse
import io
import platform
import random
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.packs import PackStore, find_manifest
from models.serving.load import load_models
from models.serving.models import Models
from service.compat.face_ids import find_faces
from service.gallery.identification import template_vector
from service.settings import CompatSettings, Settings, load_settings
from tests.client import guarded_client
from tests.conftest import galleries_for
from tests.pictures import encode
from tests.service.compat.rekognition.conftest import Caller, rekognition_key

SIGMAS_PX = (3, 4, 5)
_SEED = 7
_COLLECTION = "staff"
_out = Console()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-stored-quality")
    parser.add_argument("--lfw", type=Path, required=True, help="directory of LFW, with `images`")
    parser.add_argument("--people", type=int, default=350)
    arguments = parser.parse_args()
    folders = sorted(folder for folder in (arguments.lfw / "images").iterdir() if folder.is_dir())
    random.Random(_SEED).shuffle(folders)
    photos = [min(folder.glob("*.jpg")) for folder in folders[: arguments.people]]
    models = load_models(PackStore(load_settings().packs_dir), find_manifest("opencv-zoo"))
    title = f"{len(photos)} people of LFW, {models.recognizer.name}, {platform.processor() or platform.machine()}"
    table = Table("blur", "faces above quality 0", "pairs", "false matches", "rate", title=title)
    for sigma in SIGMAS_PX:
        vectors = _measured_vectors(models, photos, sigma)
        pairs = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        false = int((pairs >= _threshold(models)).sum())
        rate = f"{false / max(1, len(pairs)):.2%}"
        table.add_row(f"σ {sigma}", str(len(vectors)), f"{len(pairs):,}", str(false), rate)
    _out.print(table)


def _threshold(models: Models) -> float:
    if models.calibration is None:
        raise SystemExit(f"nothing can be measured without a calibration: {models.uncalibrated_because}")
    return models.calibration.point().threshold


def _measured_vectors(models: Models, photos: list[Path], sigma: int) -> NDArray[np.float32]:
    """Return the embeddings, (N, D) float32, of the stored faces above quality 0."""
    settings = Settings(compat=CompatSettings(rekognition=True))
    with (
        tempfile.TemporaryDirectory() as directory,
        galleries_for(models, Path(directory) / "galleries") as galleries,
        guarded_client(models, galleries, Path(directory) / "security", settings) as guarded,
    ):
        call = Caller(guarded.client, rekognition_key(guarded.keys))
        call.ok("CreateCollection", CollectionId=_COLLECTION)
        ids: list[str] = []
        for photo in track(photos, f"σ {sigma}", console=_out, transient=True):
            blurred = Image.open(io.BytesIO(photo.read_bytes())).convert("RGB").filter(ImageFilter.GaussianBlur(sigma))
            ids += call.index(encode(blurred), QualityFilter="NONE", MaxFaces=1)
        stored = find_faces(galleries, _COLLECTION, ids).values()
        return np.stack([template_vector(galleries, _COLLECTION, face) for face in stored if face.is_measured])


if __name__ == "__main__":
    main()
