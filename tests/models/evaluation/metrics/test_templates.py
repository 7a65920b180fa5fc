from pathlib import Path

import numpy as np
import pytest

from models.evaluation.acquire.embedding_cache import CachedFace
from models.evaluation.acquire.embedding_run import add_views
from models.evaluation.metrics.templates import TemplateBuilder, score_pairs
from models.fusion import fuse
from models.quality import FaceGeometry
from tests.models.evaluation.golden import golden_templates


@pytest.mark.parametrize("variant", ["insightface", "adaface"])
@pytest.mark.parametrize("batch", [1, 5, 24])
def test_templates_and_scores_equal_those_of_the_official_code(shared: Path, variant: str, batch: int) -> None:
    """The input is what an embedding run returns: embeddings and norms of two views, in batches of any size."""
    views, golden = golden_templates(shared)
    templates, media = np.array(golden["template_id"]), np.array(golden["media_id"])
    builder = TemplateBuilder(templates, media)
    features = []
    for place, image in enumerate(views):
        norms = np.linalg.norm(image, axis=1)
        face = CachedFace(
            (image / norms[:, None]).astype(np.float32), norms.astype(np.float32), FaceGeometry(np.nan, np.nan, np.nan)
        )
        unit, length = add_views(face)
        weight = golden["detector_score"][place] if variant == "insightface" else 1.0
        features.append(unit * length * weight)
    for start in range(0, len(features), batch):
        builder.add(np.arange(start, min(start + batch, 24)), np.stack(features[start : start + batch]))
    vectors = builder.finish()
    expected = np.array(golden[variant]["template_features"])
    assert builder.ids.tolist() == sorted(set(golden["template_id"]))
    assert vectors == pytest.approx(expected, abs=1e-6)
    first, second = builder.places(np.array(golden["p1"])), builder.places(np.array(golden["p2"]))
    assert score_pairs(vectors, first, second) == pytest.approx(np.array(golden[variant]["scores"]), abs=1e-6)


def test_templates_equal_the_fusion_of_the_gallery_in_any_order_of_images() -> None:
    rng = np.random.default_rng(0)
    templates, media = rng.integers(0, 7, 60), rng.integers(0, 4, 60)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    builder = TemplateBuilder(templates, media)
    order = rng.permutation(60)
    for start in range(0, 60, 13):
        part = order[start : start + 13]
        builder.add(part, features[part])
    for row, template in zip(builder.finish(), builder.ids, strict=True):
        images = templates == template
        assert row == pytest.approx(fuse(features[images], media=media[images]), abs=1e-6)


def test_a_template_without_a_usable_image_is_zero_and_an_unknown_one_has_index_minus_one() -> None:
    builder = TemplateBuilder(np.array([3, 5]), np.array([0, 0]))
    builder.add(np.array([0]), np.ones((1, 4)))
    assert builder.finish().tolist() == [[0.5] * 4, [0.0] * 4]
    assert builder.places(np.array([5, 4, 3, 9])).tolist() == [1, -1, 0, -1]


@pytest.mark.parametrize("few", [0, 10**9])
def test_pairs_have_the_same_scores_one_by_one_and_in_blocks(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.metrics.templates._FEW", few)
    monkeypatch.setattr("models.evaluation.metrics.templates._BLOCK", 16)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(70, 8)).astype(np.float32)
    first, second = rng.integers(0, 70, 500), rng.integers(0, 70, 500)
    assert score_pairs(vectors, first, second) == pytest.approx(
        (vectors[first] * vectors[second]).sum(axis=1), abs=1e-5
    )
