import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.alignment import alignment_matrix, crop_scale
from models.deadline import Deadline
from models.detection import Face
from models.detection.policy import FacePolicy, select_faces
from models.errors import EngineStopped, ImageUnreadable, NoFace, SeveralFaces
from models.imaging import ImageLimits, Photo, Raster
from models.pipeline import EmbeddedFace, EmbeddedPhoto, Pipeline
from models.serving.models import Models
from models.types import Embeddings
from tests.conftest import models_without_weights
from tests.pictures import encode, faces_png


@pytest.fixture
def batches(fake_models: Models, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each call of the embedder appends its number of crops."""
    embedder, counts = fake_models.pipeline.embedder, list[int]()
    embed = embedder.embed

    def count_and_embed(crops: NDArray[np.uint8], deadline: Deadline) -> Embeddings:
        counts.append(len(crops))
        return embed(crops, deadline)

    monkeypatch.setattr(embedder, "embed", count_and_embed)
    return counts


def face(x: float, size: float, score: float = 0.9) -> Face:
    return Face(np.array([x, 0, x + size, size], np.float32), np.zeros((5, 2), np.float32), score)


def embed_one(pipeline: Pipeline, photo: bytes, policy: FacePolicy, deadline: Deadline) -> list[EmbeddedFace]:
    (outcome,) = pipeline.embed([photo], policy, deadline)
    assert isinstance(outcome, EmbeddedPhoto)
    return outcome.faces


def test_policies_select_their_faces() -> None:
    left, middle, right = faces = [face(0, 30, 0.99), face(90, 20), face(150, 40)]
    assert select_faces(faces, "largest", (200, 100)) == [right]
    assert select_faces(faces, "central", (200, 20)) == [middle]
    assert select_faces(faces, "all", (200, 100)) == [left, middle, right]
    assert select_faces([left], "single", (200, 100)) == [left]
    with pytest.raises(SeveralFaces, match="3 faces"):
        select_faces(faces, "single", (200, 100))
    for policy in ("largest", "central", "single"):
        with pytest.raises(NoFace):
            select_faces([], policy, (200, 100))
    assert select_faces([], "all", (200, 100)) == []


def test_embeds_only_the_selected_faces(fake_models: Models, batches: list[int]) -> None:
    pipeline = fake_models.pipeline
    deadline = Deadline()
    for policy, count in (("largest", 1), ("all", 5)):
        assert len(embed_one(pipeline, faces_png(5), policy, deadline)) == count  # type: ignore[arg-type]
    assert batches == [1, 5]
    assert set(deadline.stage_ms) == {"decode", "detect", "align", "embed"}


def test_photos_keep_their_order_fail_alone_and_share_one_batch(fake_models: Models, batches: list[int]) -> None:
    pipeline = fake_models.pipeline
    photos = [faces_png(count, seed=count) for count in (2, 0, 3, 1)] + [b"broken"]
    outcomes = pipeline.embed(photos, "all", Deadline())
    assert batches == [6]
    assert isinstance(outcomes.pop(), ImageUnreadable)
    for photo, outcome in zip(photos, outcomes, strict=False):
        assert isinstance(outcome, EmbeddedPhoto)
        for together, alone in zip(outcome.faces, embed_one(pipeline, photo, "all", Deadline()), strict=True):
            np.testing.assert_array_equal(together.embedding, alone.embedding)
    assert [len(outcome.faces) for outcome in outcomes if isinstance(outcome, EmbeddedPhoto)] == [2, 0, 3, 1]
    assert pipeline.embed([faces_png(0)], "all", Deadline())[0].faces == []  # type: ignore[union-attr]


def test_photos_with_many_faces_are_embedded_alone_and_crops_are_held_only_on_request(
    fake_models: Models, batches: list[int]
) -> None:
    photos = [faces_png(count, seed=count) for count in (1, 20, 2, 16)]
    outcomes = fake_models.pipeline.embed(photos, "all", Deadline())
    assert sorted(batches) == [3, 16, 20], "the crops of all photos were held at once"
    kept = fake_models.pipeline.embed(photos, "all", Deadline(), keep_crops=True)
    for found, again in zip(outcomes, kept, strict=True):
        assert isinstance(found, EmbeddedPhoto)
        assert isinstance(again, EmbeddedPhoto)
        assert all(face.crop is None for face in found.faces)
        assert all(face.crop is not None and face.crop.shape == (112, 112, 3) for face in again.faces)
        for face, twin in zip(found.faces, again.faces, strict=True):
            np.testing.assert_array_equal(face.embedding, twin.embedding)
    assert [len(found.faces) for found in outcomes if isinstance(found, EmbeddedPhoto)] == [1, 20, 2, 16]


def test_a_crop_is_never_enlarged_more_than_the_full_photo_would_be(
    real_models: Models, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For faces of any size in a large JPEG, the aligned raster has enough pixels or is the full photo."""
    pipeline = real_models.pipeline
    with Image.open(photos / "astronaut.png") as image:
        portrait = image.convert("RGB")
    rasters: list[Raster] = []
    decode = Photo.raster

    def decode_and_record(photo: Photo, scale: float = 1.0) -> Raster:
        rasters.append(decode(photo, scale))
        return rasters[-1]

    monkeypatch.setattr(Photo, "raster", decode_and_record)
    for side in (500, 1000, 2500):
        canvas = Image.new("RGB", (3200, 2600), "grey")
        canvas.paste(portrait.resize((side, side)), (300, 50))
        (found,) = embed_one(pipeline, encode(canvas, "JPEG", quality=90), "largest", Deadline())
        enlargement = crop_scale(alignment_matrix(found.face.landmarks, pipeline.embedder.template))
        used = min(rasters[-1].scale)
        assert enlargement / used <= max(1.0, enlargement) + 0.02
        assert used < 1 or enlargement > 0.87, "a large face does not need the full resolution"


@pytest.mark.parametrize("file_format", ["JPEG", "BMP"])
@pytest.mark.parametrize("policy", ["single", "all"])
def test_a_large_noisy_photo_has_the_embedding_of_a_small_photo(
    real_models: Models, photos: Path, file_format: str, policy: FacePolicy
) -> None:
    """A warp from the full photo would sample single pixels of the noise."""
    pipeline = real_models.pipeline
    with Image.open(photos / "astronaut.png") as image:
        portrait = image.convert("RGB")
    (small,) = embed_one(pipeline, encode(portrait), policy, Deadline())
    noise = np.random.default_rng(0).normal(0, 25, (2000, 2000, 3))
    noisy = np.clip(np.asarray(portrait.resize((2000, 2000))) + noise, 0, 255).astype(np.uint8)
    options = {"quality": 95} if file_format == "JPEG" else {}
    limits, pipeline.limits = pipeline.limits, ImageLimits(max_bytes=20_000_000)
    try:
        (large,) = embed_one(pipeline, encode(Image.fromarray(noisy), file_format, **options), policy, Deadline())
    finally:
        pipeline.limits = limits
    assert small.embedding @ large.embedding > 0.93


def test_a_large_photo_has_the_embedding_of_a_small_photo(real_models: Models, photos: Path) -> None:
    pipeline = real_models.pipeline
    with Image.open(photos / "astronaut.png") as image:
        portrait = image.convert("RGB")
    embeddings = []
    for side in (512, 3000):
        photo = encode(portrait.resize((side, side)), "JPEG", quality=95)
        embeddings.append(embed_one(pipeline, photo, "single", Deadline())[0].embedding)
    assert embeddings[0] @ embeddings[1] > 0.95


def test_a_request_does_not_wait_for_workers_that_are_busy_with_other_requests(fake_models: Models) -> None:
    pipeline, gate = fake_models.pipeline, threading.Event()
    busy = [pipeline._workers.submit(gate.wait, 10) for _ in range(2 * pipeline._workers._max_workers)]
    try:
        photos = [faces_png(1, seed=1), b"broken", faces_png(2, seed=2)]
        first, broken, second = pipeline.embed(photos, "all", Deadline(5))
        assert not any(future.done() for future in busy)
    finally:
        gate.set()
    assert isinstance(broken, ImageUnreadable)
    assert [len(found.faces) for found in (first, second) if isinstance(found, EmbeddedPhoto)] == [1, 2]


def test_a_closed_pipeline_leaves_no_worker_thread_and_accepts_no_more_photos() -> None:
    before = set(threading.enumerate())  # threads, not their numbers: a new thread can get the number of an ended one
    models = models_without_weights()
    photos = [faces_png(1)] * 4
    with closing(models), models.pipeline as pipeline:
        assert len(pipeline.detect(photos, "all", Deadline())) == 4
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before
    with pytest.raises(EngineStopped, match="accepts no more photos"):
        models.pipeline.detect(photos, "all", Deadline())
    models.close()
