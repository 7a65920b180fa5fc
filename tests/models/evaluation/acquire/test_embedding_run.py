import os
import sqlite3
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.deadline import Deadline
from models.errors import CacheFailed, InferenceFailed, SetIncomplete
from models.evaluation.acquire import embedding_run
from models.evaluation.acquire.acquisition import FromCrops, FromLandmarks
from models.evaluation.acquire.embedding_run import add_views
from models.evaluation.acquire.pictures import Picture, require_present
from models.evaluation.model import EvaluatedModel
from models.serving.models import Models
from models.synthetic import synthetic_pictures
from models.types import Embeddings
from tests.conftest import FakeDetector
from tests.models.evaluation.people import models_by_color, write_people
from tests.pictures import encode, faces_png


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_run, "_GROUP", 4)


def pictures_of(directory: Path) -> list[Picture]:
    return [Picture(str(path.relative_to(directory)), path) for path in sorted(directory.rglob("*.png"))]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    return pictures_of(write_people(tmp_path / "people", 5, 3))


class Counting:
    """A counter of the crops that the embedder receives."""

    def __init__(self, model: EvaluatedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        embedder = model.models.pipeline.embedder
        embed, self.crops = embedder.embed, 0

        def counted(crops: NDArray[np.uint8], deadline: Deadline | None = None) -> Embeddings:  # noqa: ARG001
            self.crops += len(crops)
            return embed(crops)

        monkeypatch.setattr(embedder, "embed", counted)


def test_the_embeddings_are_those_of_the_serving_pipeline(pictures: list[Picture]) -> None:
    model = EvaluatedModel(models_by_color())
    steps: list[tuple[int, int | None]] = []
    model.progress = lambda _, count, total: steps.append((count, total))
    faces = model.embed(model.photos("single"), pictures)
    pipeline = model.models.pipeline
    assert faces.found.all()
    for row, picture in zip(faces.embedding, pictures, strict=True):
        assert isinstance(picture.source, Path)
        (photo,) = pipeline.embed([picture.source.read_bytes()], "single", Deadline())
        assert not isinstance(photo, Exception)
        assert (photo.faces[0].embedding == row).all()
    assert steps == [(4, 15), (8, 15), (12, 15), (15, 15)]
    assert faces.names == [picture.name for picture in pictures]


def test_a_second_run_needs_no_inference(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    counting = Counting(model, monkeypatch)
    first = model.embed(model.photos("single"), pictures)
    assert (first.inferred, counting.crops) == (15, 15)
    renamed = [Picture(f"renamed {picture.name}", picture.source) for picture in reversed(pictures)]
    again = model.embed(model.photos("single"), renamed)
    assert (again.inferred, counting.crops) == (0, 15), "the cache finds pictures by content, not by name or order"
    assert (again.embedding[::-1] == first.embedding).all()
    assert (again.norms[::-1] == first.norms).all()
    assert (again.geometry[::-1] == first.geometry).all()
    assert model.embed(model.photos("largest"), pictures).inferred == 15, "another policy may select another face"
    assert len(list((tmp_path / "cache").glob("*.sqlite"))) == 2


def test_the_cache_holds_no_names(pictures: list[Picture], tmp_path: Path) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    model.embed(model.photos("single"), pictures)
    for path in (tmp_path / "cache").iterdir():
        assert b"subject" not in path.read_bytes().replace(b"subjects", b"")


def test_an_interrupted_run_resumes_where_it_stopped(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")

    def interrupt(_: str, done: int, __: int | None) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    model.progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        model.embed(model.photos("single"), pictures)
    resumed = EvaluatedModel(models_by_color(), tmp_path / "cache")
    counting = Counting(resumed, monkeypatch)
    faces = resumed.embed(resumed.photos("single"), pictures)
    assert faces.found.all()
    assert counting.crops <= 7


def test_an_engine_that_fails_stops_the_run(pictures: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    model = EvaluatedModel(models_by_color())

    def fail(_: NDArray[np.uint8]) -> Embeddings:
        raise InferenceFailed("the engine refused")

    monkeypatch.setattr(model.models.pipeline.embedder, "embed", fail)
    with pytest.raises(InferenceFailed):
        model.embed(model.photos("single"), pictures)


def test_failures_are_reported_with_their_reason_and_cached(tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.jpg", tmp_path / "gone.jpg"
    broken.write_bytes(b"\xff\xd8\xff broken")
    pictures = [
        Picture("none", faces_png(0)),
        Picture("two", faces_png(2)),
        Picture("broken.jpg", broken),
        Picture("gone.jpg", missing),
        Picture("good", faces_png(1)),
        Picture("good again", faces_png(1)),
    ]
    model = EvaluatedModel(models_by_color(), tmp_path / "cache", max_missing=1)
    for inferred in (4, 0):
        faces = model.embed(model.photos("single"), pictures)
        assert [(failure.name, failure.code) for failure in faces.failures] == [
            ("none", "no_face"),
            ("two", "several_faces"),
            ("broken.jpg", "image_unreadable"),
            ("gone.jpg", "image_missing"),
        ]
        assert faces.found.tolist() == [False] * 4 + [True] * 2
        assert not faces.embedding[:4].any()
        assert np.isnan(faces.norms[:4]).all()
        assert faces.contents[4] == faces.contents[5] != faces.contents[0]
        assert faces.contents[3] is None
        assert faces.inferred == inferred


def test_a_file_that_is_too_large_is_a_failure_to_acquire_and_not_held_in_memory(
    pictures: list[Picture], tmp_path: Path
) -> None:
    large = [tmp_path / "film 1.jpg", tmp_path / "film 2.jpg"]
    for path in large:
        path.touch()
        os.truncate(path, 2**26)  # without blocks
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    tracemalloc.start()
    try:
        faces = model.embed(model.photos("single"), [*pictures, *(Picture(path.name, path) for path in large)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(failure.name, failure.code) for failure in faces.failures] == [
        (path.name, "image_too_many_bytes") for path in large
    ]
    assert faces.present.all()
    assert faces.contents[-2] == faces.contents[-1], "copies of it are told"
    assert peak < 2**25


def test_missing_files_stop_the_run_before_it_begins(tmp_path: Path) -> None:
    present = tmp_path / "there.png"
    present.write_bytes(faces_png(1))
    pictures = [Picture("there.png", present), *(Picture(f"gone {n}", tmp_path / f"gone {n}") for n in range(12))]
    assert len(require_present(pictures, 12)) == 12
    sentence = r"12 of 13 pictures are missing; the maximum is 11: gone 0, .*gone 9, …"
    with pytest.raises(SetIncomplete, match=sentence):
        require_present(pictures, 11)
    model = EvaluatedModel(models_by_color(), max_missing=3)
    with pytest.raises(SetIncomplete):
        model.embed(model.photos("single"), pictures)


def test_both_views_are_added_before_normalisation(tmp_path: Path) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    crops = synthetic_pictures(3, 112, 112)
    pictures = [Picture(str(n), encode(Image.fromarray(crop))) for n, crop in enumerate(crops)]
    embedder = model.models.pipeline.embedder
    plain, mirrored = embedder.embed(crops), embedder.embed(np.ascontiguousarray(crops[:, :, ::-1]))
    total = plain.embedding * plain.norm[:, None] + mirrored.embedding * mirrored.norm[:, None]
    for _ in range(2):  # computed, then read from the cache
        faces = model.embed(FromCrops(model.template), pictures, mirror=True)
        assert faces.norms == pytest.approx(np.stack([plain.norm, mirrored.norm], axis=1))
        assert faces.embedding == pytest.approx(total / np.linalg.norm(total, axis=1, keepdims=True), abs=1e-6)
    single = model.embed(FromCrops(model.template), pictures)
    assert single.embedding == pytest.approx(plain.embedding)
    with model.run(FromCrops(model.template), mirror=True) as run:
        (group,) = run.groups(pictures)
    unit, length = add_views(group.outcomes[0])  # type: ignore[arg-type]
    assert unit * length == pytest.approx(total[0], abs=1e-5)


@pytest.mark.parametrize(
    ("size", "expected"), [((112, 112), (112, 112)), ((250, 224), (112, 112)), ((56, 56), (112, 112))]
)
def test_crops_of_another_size_are_scaled_to_112(size: tuple[int, int], expected: tuple[int, int]) -> None:
    model = EvaluatedModel(models_by_color())
    crop = synthetic_pictures(1, size[1], size[0])[0]
    (found,) = FromCrops(model.template).crops([encode(Image.fromarray(crop))])
    assert not isinstance(found, Exception)
    assert found.pixels.shape[:2] == expected
    if size == (112, 112):
        assert (found.pixels == crop).all()


def test_a_set_with_landmarks_is_aligned_by_them_and_cached_by_image_and_landmarks() -> None:
    model = EvaluatedModel(models_by_color())
    template = model.template
    photo = synthetic_pictures(1, 300, 300)[0]
    points = np.array(template.points, np.float32) * 1.5 + 40
    encoded = encode(Image.fromarray(photo))
    faces = model.embed(
        FromLandmarks(template), [Picture("one", encoded, points), Picture("two", encoded, points + 25)]
    )
    assert faces.found.all()
    assert faces.contents[0] != faces.contents[1]
    assert not np.allclose(faces.embedding[0], faces.embedding[1])
    flat = model.embed(FromLandmarks(template), [Picture("flat", encoded, points * 0)])
    assert [failure.code for failure in flat.failures] == ["degenerate_landmarks"]


def test_refuses_a_cache_file_that_is_not_a_cache(tmp_path: Path, pictures: list[Picture]) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    model.embed(model.photos("single"), pictures)
    for path in (tmp_path / "cache").glob("*.sqlite*"):
        path.write_bytes(b"not a store at all" * 500)
    with pytest.raises(CacheFailed, match="--no-cache"):
        model.embed(model.photos("single"), pictures)


def test_two_runs_may_use_one_cache(tmp_path: Path, pictures: list[Picture]) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    runs: Sequence[EvaluatedModel] = [model, EvaluatedModel(model.models, tmp_path / "cache")]
    with runs[0].run(model.photos("single")) as first, runs[1].run(model.photos("single")) as second:
        for first_group, second_group in zip(first.groups(pictures), second.groups(pictures), strict=True):
            assert len(first_group.outcomes) == len(second_group.outcomes)
    (path,) = (tmp_path / "cache").glob("*.sqlite")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT COUNT(*) FROM faces").fetchone() == (15,)
    connection.close()


def test_refuses_a_cache_with_an_altered_row(tmp_path: Path, pictures: list[Picture]) -> None:
    model = EvaluatedModel(models_by_color(), tmp_path / "cache")
    model.embed(model.photos("single"), pictures)
    (path,) = (tmp_path / "cache").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE faces SET embeddings = x'010203'")
    with pytest.raises(CacheFailed, match="--no-cache"):
        model.embed(model.photos("single"), pictures)


def test_embeddings_made_under_other_conditions_are_not_reused(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each changed condition can change the embedding of a picture."""
    models = models_by_color()
    cache = tmp_path / "cache"

    def inferred(models: Models) -> int:
        model = EvaluatedModel(models, cache)
        return model.embed(model.photos("single"), pictures).inferred

    assert inferred(models) == 15
    assert inferred(models) == 0
    session, card = models.embedder_session, models.recognizer
    for other in (
        replace(models, contract_id="ec1-other"),
        replace(models, embedder_session=replace(session, precision="bf16")),
        replace(models, embedder_session=replace(session, engine="onnxruntime")),
        replace(models, embedder_session=replace(session, version="1")),
        replace(models, embedder_session=replace(session, provider="a GPU")),
        replace(models, detector_session=replace(session, precision="bf16")),
        replace(models, detector=replace(models.detector, weights="1" * 64)),
        replace(models, recognizer=replace(card, files={"embedder.int8.onnx": "2" * 64})),
    ):
        assert inferred(other) == 15
        assert inferred(other) == 0
    monkeypatch.setattr(FakeDetector, "max_side_px", 1280)
    assert inferred(models) == 15
