import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fusion import fuse


def uniform(tag: str, count: int) -> NDArray[np.float64]:
    """Return `count` uniform random numbers in [0, 1), seeded by a tag as in the recipe of the reference."""
    drawn: NDArray[np.float64] = np.random.RandomState(zlib.crc32(tag.encode())).random_sample(count)
    return drawn


def images_of(shared: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return the reference and its image embeddings, which are the sum of both views as in `protocol_golden.json`."""
    golden = json.loads((shared / "reference/protocol_golden.json").read_text())["templates"]
    count = golden["n_images"]
    lengths = 0.5 + 3 * uniform("proto.ijb.norm", count)
    features = (2 * uniform("proto.ijb.feat", count * 16) - 1).reshape(count, 16) * lengths[:, None]
    return golden, (features[:, :8] + features[:, 8:]).astype(np.float32)


@pytest.mark.parametrize("project", ["adaface", "insightface"])
def test_templates_match_the_official_evaluations(shared: Path, project: str) -> None:
    golden, images = images_of(shared)
    template_ids, media = np.array(golden["template_id"]), np.array(golden["media_id"])
    scores = np.array(golden["detector_score"], np.float32)
    fused = {
        key: fuse(
            images[template_ids == key],
            scores[template_ids == key] if project == "insightface" else None,
            media[template_ids == key],
        )
        for key in np.unique(template_ids)
    }
    expected = golden[project]
    np.testing.assert_allclose(np.stack(list(fused.values())), expected["template_features"], atol=2e-6)
    pairs = zip(golden["p1"], golden["p2"], strict=True)
    np.testing.assert_allclose([fused[a] @ fused[b] for a, b in pairs], expected["scores"], atol=2e-6)


def test_norms_as_weights_add_unnormalised_embeddings() -> None:
    random = np.random.default_rng(1)
    features = (random.standard_normal((5, 16)) * random.uniform(1, 20, (5, 1))).astype(np.float32)
    norms = np.linalg.norm(features, axis=1).astype(np.float32)
    np.testing.assert_allclose(fuse(features / norms[:, None], norms), fuse(features), atol=1e-6)
    total = features.sum(axis=0)
    np.testing.assert_allclose(fuse(features), total / np.linalg.norm(total), atol=1e-6)


def test_opposite_embeddings_fuse_to_zero() -> None:
    assert not fuse(np.array([[1, 0], [-1, 0]], np.float32)).any()
