import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SingleClass
from models.evaluation.metrics import identification
from models.evaluation.metrics.identification import search, search_ijb_protocol
from tests.models.evaluation.people import people

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@pytest.fixture(autouse=True)
def _few_probes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification, "_PROBES", 7)


def split(known: int) -> tuple[Vectors, Ids, Vectors, Ids]:
    """Return a gallery with two pictures of each of the first subjects, and all other pictures as probes."""
    embedding, subjects = people(60, 6, spread=0.6)
    order = np.argsort(subjects, kind="stable")
    enrolled = np.concatenate([order[6 * subject : 6 * subject + 2] for subject in range(known)])
    probes = np.setdiff1d(order, enrolled)
    return embedding[enrolled], subjects[enrolled], embedding[probes], subjects[probes]


def test_ranks_and_rates_equal_those_of_a_plain_search() -> None:
    gallery, owners, probes, subjects = split(40)
    found = search(gallery, owners, probes, subjects)
    similarity = probes @ gallery.T
    best = np.stack([similarity[:, owners == owner].max(axis=1) for owner in range(40)], axis=1)
    mated = subjects < 40
    ranks = (best[mated] > best[mated, subjects[mated]][:, None]).sum(axis=1)
    assert found.ranks == {rank: pytest.approx((ranks < rank).mean()) for rank in (1, 5, 10)}
    assert (found.mated, found.non_mated) == (mated.sum(), (~mated).sum())
    best_other = best[~mated].max(axis=1)
    for rate in found.rates:
        allowed = int(rate.fpir * len(best_other))
        assert rate.errors == allowed
        assert rate.threshold == pytest.approx(np.sort(best_other)[::-1][allowed]), "the first rejected score"
        hit = (ranks == 0) & (best[mated, subjects[mated]] > rate.threshold + 1e-6)
        assert rate.tpir == pytest.approx(hit.mean(), abs=1.5 / mated.sum())
    assert [rate.fpir for rate in found.rates] == [1e-2, 1e-1], "120 non-mated probes do not support 1e-3"


def test_a_probe_without_a_face_is_not_identified() -> None:
    gallery, owners, probes, subjects = split(40)
    incomplete = probes.copy()
    incomplete[subjects == 3] = 0
    found = search(gallery, owners, incomplete, subjects)
    assert found.ranks[10] <= search(gallery, owners, probes, subjects).ranks[10] - 4 / found.mated + 1e-9
    assert (found.own == -1).sum() == 4


def test_refuses_probes_of_unenrolled_subjects_only() -> None:
    gallery, owners, probes, subjects = split(10)
    with pytest.raises(SingleClass, match="no probe is of an enrolled subject"):
        search(gallery, owners, probes[subjects >= 10], subjects[subjects >= 10])


def test_official_rates_equal_those_of_the_official_definition() -> None:
    """The threshold is the k-th largest score with other subjects, k is FPIR times the probes, any rank counts."""
    gallery, owners, probes, subjects = split(60)
    gallery, owners = gallery[::2], owners[::2]
    ranks, rates = search_ijb_protocol(gallery, owners, probes, subjects)
    similarity = probes @ gallery.T
    own = similarity[np.arange(len(probes)), subjects]
    others = np.sort(similarity[owners[None] != subjects[:, None]])[::-1]
    for rate, fpir in zip(rates, (0.01, 0.1), strict=True):
        kth = others[int(np.ceil(fpir * len(probes))) - 1]
        assert rate.threshold == pytest.approx(kth)
        assert rate.tpir == pytest.approx((own > kth).mean())
    place = (similarity > own[:, None]).sum(axis=1)
    assert ranks == {rank: pytest.approx((place < rank).mean()) for rank in (1, 5, 10)}
    with pytest.raises(SingleClass):
        search_ijb_protocol(gallery[:5], owners[:5], probes, subjects)


def test_a_probe_of_a_subject_who_failed_to_enrol_is_a_miss_and_not_a_stranger() -> None:
    """Of subject 3, both gallery pictures have no face; of subject 4, one of the two."""
    gallery, owners, probes, subjects = split(40)
    failed = gallery.copy()
    failed[owners == 3] = 0
    failed[np.flatnonzero(owners == 4)[0]] = 0
    found, complete = search(failed, owners, probes, subjects), search(gallery, owners, probes, subjects)
    assert (found.mated, found.non_mated) == (complete.mated, complete.non_mated)
    assert (found.unenrolled, complete.unenrolled) == (4, 0), "each subject has four probes"
    mated = subjects[subjects < 40]
    assert (found.own[mated == 3] == -1).all()
    assert (found.place[mated == 3] >= max(found.ranks)).all()
    assert (found.own[mated == 4] > -1).all()
    assert found.rates[0].threshold <= complete.rates[0].threshold, "its probes are not among the non-mated ones"


def test_a_gallery_of_few_subjects_does_not_rank_a_subject_who_failed_to_enrol() -> None:
    gallery, owners, probes, subjects = split(3)
    failed = gallery.copy()
    failed[owners == 1] = 0
    found = search(failed, owners, probes, subjects)
    assert found.ranks[10] == pytest.approx(2 / 3)
    with pytest.raises(SingleClass, match="no picture of the gallery has a face"):
        search(np.zeros_like(gallery), owners, probes, subjects)
