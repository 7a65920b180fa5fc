"""Milliseconds by stage, compared with programs that use OpenCV or ONNX Runtime directly.

Every round times all libraries one after another in the same process, so that noise of the machine affects all of them
alike. The table shows medians. Only ratios within one run are comparable.
"""

import io
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.alignment import TEMPLATES, align
from models.deadline import Deadline
from models.detection import AnchorDetector
from models.graph import simplify
from models.imaging import Photo, Raster
from models.packs import PackStore, find_manifest
from models.packs.sources import fetch_published
from models.pipeline import EmbeddedPhoto, Pipeline
from models.runtime import RuntimeOptions
from models.serving.load import load_models
from models.serving.models import Models
from service.settings import load_settings

ROUNDS, WARM_UP, BURST = 20, 2, 3
_PAUSE_S = 0.1
SMALL, LARGE = "0.25 MP", "12 MP"
ENGINES = {
    "openvino": RuntimeOptions(engine="openvino"),
    "openvino int8": RuntimeOptions(engine="openvino", precision="int8"),
    "onnxruntime": RuntimeOptions(engine="onnxruntime"),
}

Pixels = NDArray[np.uint8]
Step = Callable[[], object]


class OpenCvPipeline:
    """Detection, alignment and embedding with OpenCV's classes, as in its samples; the long side is at most 640 px."""

    def __init__(self, detector: Path, recognizer: Path) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(detector), "", (640, 640), 0.6, 0.3, 5000)
        self._recognizer = cv2.FaceRecognizerSF.create(str(recognizer), "")

    def decode(self, encoded: bytes) -> Pixels:
        return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)

    def detect(self, image: Pixels) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        scale = min(1.0, 640 / max(height, width))
        small = cv2.resize(image, None, fx=scale, fy=scale) if scale < 1 else image
        self._detector.setInputSize(small.shape[1::-1])
        _, rows = self._detector.detect(small)
        found = np.array(rows, dtype=np.float32)
        found[:, :14] /= np.float32(scale)
        return found

    def align(self, image: Pixels, face: NDArray[np.float32]) -> Pixels:
        return self._recognizer.alignCrop(image, face).astype(np.uint8, copy=False)

    def embed(self, crop: Pixels) -> NDArray[np.float32]:
        return np.asarray(self._recognizer.feature(crop), dtype=np.float32)

    def face(self, encoded: bytes) -> NDArray[np.float32]:
        image = self.decode(encoded)
        rows = self.detect(image)
        return self.embed(self.align(image, rows[(rows[:, 2] * rows[:, 3]).argmax()]))

    def verify(self, probe: bytes, reference: bytes) -> float:
        return float(self._recognizer.match(self.face(probe), self.face(reference), cv2.FaceRecognizerSF_FR_COSINE))


def measure_stages(published: Path, folded: Path, console: Console) -> dict[tuple[str, str, str], float]:
    """Time every step, print the table, and return milliseconds by (stage, photo, library)."""
    store = PackStore(load_settings().packs_dir)
    detector = published / find_manifest("opencv-zoo").files[0].name
    loaded = {name: load_models(store, find_manifest("opencv-zoo"), options) for name, options in ENGINES.items()}
    photos = bench_photos(store)
    times = _measure(_steps(loaded, OpenCvPipeline(detector, folded), _plain_onnxruntime(folded), photos), console)
    _print(times, loaded, console)
    return times


def fetch_models(scratch: Path) -> tuple[Path, Path]:
    """Fetch the pack's published files, and simplify the recognizer: FaceRecognizerSF rejects its 30 inputs."""
    manifest = find_manifest("opencv-zoo")
    published = fetch_published(manifest, scratch / "published", lambda *_: None)
    folded = scratch / "folded.onnx"
    onnx.save(simplify(onnx.load(published / manifest.files[1].name)), folded)
    return published, folded


def bench_photos(store: PackStore) -> dict[str, tuple[bytes, bytes]]:
    """Return two JPEGs of each size, made from the demonstration photos."""
    folder = store.verify(find_manifest("demo-photos"))
    sizes = {SMALL: [(512, 512), (588, 408)], LARGE: [(3464, 3464), (4160, 2880)]}
    photos: dict[str, tuple[bytes, bytes]] = {}
    for name, pair_sizes in sizes.items():
        encoded = []
        for file, size in zip(("astronaut.png", "group.jpg"), pair_sizes, strict=True):
            with Image.open(folder / file) as image:
                stream = io.BytesIO()
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
            encoded.append(stream.getvalue())
        photos[name] = (encoded[0], encoded[1])
    return photos


def _plain_onnxruntime(folded: Path) -> Callable[[Pixels], NDArray[np.float32]]:
    session = ort.InferenceSession(str(folded), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def embed(crop: Pixels) -> NDArray[np.float32]:
        planes = crop.transpose(2, 0, 1)[None].astype(np.float32)
        return np.asarray(session.run(None, {name: planes})[0])

    return embed


def _steps(
    loaded: dict[str, Models],
    opencv: OpenCvPipeline,
    plain: Callable[[Pixels], NDArray[np.float32]],
    photos: dict[str, tuple[bytes, bytes]],
) -> dict[tuple[str, str, str], Step]:
    """Return every step by (stage, photo, library)."""
    steps: dict[tuple[str, str, str], Step] = {}
    template = TEMPLATES["arcface-112"]
    for size, (encoded, other) in photos.items():
        pixels = opencv.decode(encoded)
        row = opencv.detect(pixels)[0]
        crop = opencv.align(pixels, row)
        steps["decode", size, "opencv"] = partial(opencv.decode, encoded)
        steps["detect", size, "opencv"] = partial(opencv.detect, pixels)
        steps["align", size, "opencv"] = partial(opencv.align, pixels, row)
        steps["embed", size, "opencv"] = partial(opencv.embed, crop)
        steps["embed", size, "plain onnxruntime"] = partial(plain, crop)
        steps["verify two", size, "opencv"] = partial(opencv.verify, encoded, other)
        for name, models in loaded.items():
            pipeline = models.pipeline
            raster = _decode(pipeline, encoded)
            landmarks = pipeline.detector.detect(raster.pixels)[0].landmarks[None]
            steps["decode", size, name] = partial(_decode, pipeline, encoded)
            steps["detect", size, name] = partial(pipeline.detector.detect, raster.pixels)
            steps["align", size, name] = partial(align, raster.pixels, landmarks, template)
            steps["embed", size, name] = partial(pipeline.embedder.embed, crop[None])
            steps["verify two", size, name] = partial(_verify, pipeline, (encoded, other))
    canvas = np.ascontiguousarray(cv2.resize(opencv.decode(photos[SMALL][0]), (640, 640)), dtype=np.uint8)
    steps["network", "640 x 640", "opencv"] = partial(opencv.detect, canvas)
    for name, models in loaded.items():
        detector = models.pipeline.detector
        assert isinstance(detector, AnchorDetector)
        steps["network", "640 x 640", name] = partial(detector.detect_once, canvas)
    return steps


def _decode(pipeline: Pipeline, encoded: bytes) -> Raster:
    photo = Photo(encoded, pipeline.limits)
    return photo.raster(pipeline.detector.raster_scale(photo.width, photo.height))


def _verify(pipeline: Pipeline, pair: tuple[bytes, bytes]) -> float:
    """Compute what `POST /v1/verify` computes, without HTTP."""
    probe, reference = pipeline.embed(pair, "largest", Deadline())
    assert isinstance(probe, EmbeddedPhoto)
    assert isinstance(reference, EmbeddedPhoto)
    return float(probe.faces[0].embedding @ reference.faces[0].embedding)


def _measure(steps: dict[tuple[str, str, str], Step], console: Console) -> dict[tuple[str, str, str], float]:
    spent: dict[tuple[str, str, str], list[float]] = {key: [] for key in steps}
    libraries = list(dict.fromkeys(library for _, _, library in steps))
    for index in track(range(ROUNDS + WARM_UP), "rounds", console=console, transient=True):
        for library in libraries:
            time.sleep(_PAUSE_S)  # threads of the previous library still spin, waiting for work
            for key in (key for key in steps if key[2] == library):
                steps[key]()
                for _ in range(BURST):
                    start = time.perf_counter()
                    steps[key]()
                    if index >= WARM_UP:
                        spent[key].append((time.perf_counter() - start) * 1000)
    return {key: median(values) for key, values in spent.items()}


def _print(times: dict[tuple[str, str, str], float], loaded: dict[str, Models], console: Console) -> None:
    table = Table(
        title=f"milliseconds by stage, median of {ROUNDS * BURST} runs in {ROUNDS} interleaved rounds",
        title_justify="left",
    )
    for column in ("stage", "photo"):
        table.add_column(column)
    libraries = [*ENGINES, "opencv", "plain onnxruntime"]
    for name in libraries:
        table.add_column(f"Vultus, {name}" if name in loaded else name, justify="right")
    table.add_column("Vultus is faster by", justify="right")
    for stage, photo in dict.fromkeys((stage, photo) for stage, photo, _ in times):
        cells = [times.get((stage, photo, name)) for name in libraries]
        best = min(times[stage, photo, name] for name in ENGINES if (stage, photo, name) in times)
        ratios = [
            f"{cell / best:.1f} x" for name, cell in zip(libraries, cells, strict=True) if cell and name not in loaded
        ]
        table.add_row(stage, photo, *("" if cell is None else f"{cell:.2f}" for cell in cells), " / ".join(ratios))
    console.print(table)
    for name, models in loaded.items():
        session = models.embedder_session
        console.print(f"{name} {session.version}, {session.precision}, {session.threads} threads", highlight=False)
    console.print(
        f"OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads; {platform.processor() or platform.machine()}"
    )
    console.print(
        "`detect` may run the network at two scales and, if unsure, in four orientations; `network` is one run on the "
        "same pixels; `verify two` is a verification of two photos."
    )
