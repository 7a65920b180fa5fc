from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as official_curve

from models.errors import SingleClass
from models.evaluation.metrics.roc import roc_curve, tar_at_far
from tests.models.evaluation.golden import golden_pairs


def test_tar_at_far_equals_that_of_the_official_code(shared: Path) -> None:
    first, second, mated, answers = golden_pairs(shared)
    targets = [float(target) for target in answers["tar_at_far_nearest"]]
    points = tar_at_far(*roc_curve((first * second).sum(axis=1), mated), targets)
    assert [[point.tar, point.far] for point in points] == list(answers["tar_at_far_nearest"].values())


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=200))
def test_the_curve_equals_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, mated = np.array([row[0] for row in rows]) / 10, np.array([row[1] for row in rows])
    if mated.all() or not mated.any():
        with pytest.raises(SingleClass):
            roc_curve(scores, mated)
        return
    far, tar, _ = official_curve(mated, scores)
    curve = roc_curve(scores, mated)
    assert np.array_equal(curve[0], far)
    assert np.array_equal(curve[1], tar)


def test_selects_the_highest_of_equally_near_points() -> None:
    far, tar = np.array([0.0, 0.0, 0.2]), np.array([0.0, 0.5, 1.0])
    assert tar_at_far(far, tar, [0.01])[0][1:] == (0.5, 0.0)
    assert tar_at_far(far, tar, [0.15])[0][1:] == (1.0, 0.2), "the FAR may exceed the target"
