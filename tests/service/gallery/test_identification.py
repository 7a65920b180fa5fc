import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from models.deadline import Deadline
from models.errors import DeadlineExceeded
from models.fusion import fuse
from service.errors import ContractMismatch, GalleryUnknown
from service.gallery.administration import change_gallery, create_gallery, merge_subjects, read_gallery
from service.gallery.erasure import erase_subject, erase_template
from service.gallery.galleries import Galleries
from service.gallery.identification import identify
from service.gallery.index.live import IndexLimits
from service.gallery.ranking import greatest_similarity
from service.gallery.records import Fusion, IndexKind
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, Open, people, template, unit

KINDS: tuple[IndexKind, ...] = ("auto", "flat", "flat-fp16", "sq8", "hnsw")
FUSIONS: tuple[Fusion, ...] = ("max", "mean", "quality-weighted")


def oracle(
    vectors: NDArray[np.float32], norms: NDArray[np.float32], probes: NDArray[np.float32], fusion: Fusion
) -> NDArray[np.float64]:
    """Return the similarities by definition, (probes, subjects)."""
    if fusion == "quality-weighted":
        fused = np.stack([fuse(templates, weights) for templates, weights in zip(vectors, norms, strict=True)])
        return (probes @ fused.T).astype(np.float64)
    each = np.einsum("sed,qd->qse", vectors.astype(np.float64), probes)
    similarities: NDArray[np.float64] = each.max(axis=2) if fusion == "max" else each.mean(axis=2)
    return similarities


def fill(
    galleries: Galleries, name: str, kind: IndexKind, vectors: NDArray[np.float32], norms: NDArray[np.float32]
) -> None:
    create_gallery(galleries, name, kind)
    entries = [
        (f"{name} {subject}", template(vector, float(norm)))
        for subject, (templates, lengths) in enumerate(zip(vectors, norms, strict=True))
        for vector, norm in zip(templates, lengths, strict=True)
    ]
    store_templates(galleries, name, entries)
    galleries.wait_idle()


def test_two_large_subjects_are_compared_in_bounded_memory_until_the_deadline() -> None:
    one, other = people(2, 2500)
    other[2200] = -other[2200]
    one[2400] = other[2200]
    tracemalloc.start()
    try:
        assert greatest_similarity(one, other, Deadline()) == pytest.approx((one @ other.T).max(), abs=1e-6)
        tracemalloc.reset_peak()
        greatest_similarity(one, other, Deadline())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20  # of 25 MB
    with pytest.raises(DeadlineExceeded):
        greatest_similarity(one, other, Deadline(0.0))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_search_ends_at_its_deadline(galleries: Galleries, fusion: Fusion) -> None:
    fill(galleries, "staff", "flat", people(20, 3), np.ones((20, 3), np.float32))
    ticks = iter(range(1000))
    deadline = Deadline(40, clock=lambda: float(next(ticks)))
    with pytest.raises(DeadlineExceeded):
        identify(galleries, ["staff"], people(300, 1)[:, 0], 10, fusion, deadline=deadline)
    assert next(ticks) < 50


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_rankings_match_a_plain_search(galleries: Galleries, kind: IndexKind, fusion: Fusion) -> None:
    vectors, norms = people(120, 4), np.random.default_rng(3).uniform(2, 20, (120, 4)).astype(np.float32)
    fill(galleries, "staff", kind, vectors, norms)
    probes = people(120, 5)[::9, 4]
    expected = oracle(vectors, norms, probes, fusion)
    found = identify(galleries, ["staff"], probes, 5, fusion)
    right = 0
    for candidates, similarities in zip(found, expected, strict=True):
        order = np.argsort(-similarities)[:5]
        assert candidates[0].subject == f"staff {order[0]}"
        np.testing.assert_allclose(
            [candidate.similarity for candidate in candidates[:1]], similarities[order[:1]], atol=1e-6
        )
        right += [candidate.subject for candidate in candidates] == [f"staff {subject}" for subject in order]
    assert right == len(probes) or (kind == "hnsw" and right > 0.7 * len(probes))  # a graph may miss far neighbours


def test_a_floor_removes_exactly_the_subjects_below_it(galleries: Galleries) -> None:
    vectors, norms = people(60, 3), np.ones((60, 3), np.float32)
    fill(galleries, "staff", "flat", vectors, norms)
    probes = people(60, 4)[:20, 3]
    for fusion in FUSIONS:
        expected = oracle(vectors, norms, probes, fusion)
        found = identify(galleries, ["staff"], probes, 60, fusion, floor=0.3)
        for candidates, similarities in zip(found, expected, strict=True):
            assert [candidate.subject for candidate in candidates] == [
                f"staff {subject}" for subject in np.argsort(-similarities) if similarities[subject] >= 0.3
            ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_k_above_the_number_of_subjects_returns_all(galleries: Galleries, kind: IndexKind) -> None:
    vectors = people(3, 2)
    fill(galleries, "few", kind, vectors, np.ones((3, 2), np.float32))
    (found,) = identify(galleries, ["few"], vectors[:1, 0], 50)
    assert {candidate.subject for candidate in found} == {"few 0", "few 1", "few 2"}
    create_gallery(galleries, "empty", kind)
    assert identify(galleries, ["empty"], vectors[:1, 0], 5) == [[]]


def test_galleries_mix_only_if_searched_together(galleries: Galleries) -> None:
    vectors = people(40, 1)
    fill(galleries, "left", "flat", vectors[:20], np.ones((20, 1), np.float32))
    fill(galleries, "right", "sq8", vectors[20:], np.ones((20, 1), np.float32))
    probes = vectors[:, 0]
    alone = identify(galleries, ["left"], probes, 20)
    assert {candidate.gallery for candidates in alone for candidate in candidates} == {"left"}
    together = identify(galleries, ["left", "right", "left"], probes, 2)
    assert [candidates[0].gallery for candidates in together] == ["left"] * 20 + ["right"] * 20
    assert all(len(candidates) == 2 for candidates in together)


@pytest.mark.parametrize("kind", KINDS)
def test_changes_are_in_the_next_answer(galleries: Galleries, reopen: Open, kind: IndexKind) -> None:
    vectors = people(130, 2)
    fill(galleries, "staff", kind, vectors, np.ones((130, 2), np.float32))
    probe = vectors[7:8, 0]

    def first() -> str:
        return identify(galleries, ["staff"], probe, 1)[0][0].subject

    assert first() == "staff 7"
    merge_subjects(galleries, "staff", "staff 9", "staff 7")
    assert first() == "staff 9"
    erase_subject(galleries, "staff", "staff 9")
    assert first() not in ("staff 7", "staff 9")
    store_templates(galleries, "staff", [("back", template(probe[0]))])
    assert first() == "back"
    erase_template(galleries, "staff", "back", 261)
    assert first() != "back"
    before = first()
    galleries = reopen()
    assert first() == before  # by scanning the store
    galleries.wait_idle()
    assert first() == before  # by the built index
    change_gallery(galleries, "staff", "crew", index="flat")
    galleries.wait_idle()
    (candidates,) = identify(galleries, ["crew"], probe, 1)
    assert (candidates[0].gallery, candidates[0].subject) == ("crew", before)


def test_a_growing_gallery_changes_its_kind_of_index(reopen: Open) -> None:
    galleries = reopen(limits=IndexLimits(max_flat_templates=100, min_learned_templates=50))
    create_gallery(galleries, "staff")
    seen = []
    for start in range(0, 200, 50):
        store_templates(
            galleries,
            "staff",
            [(str(start + n), template(vectors[0])) for n, vectors in enumerate(people(50, 1, start))],
        )
        galleries.wait_idle()
        index = galleries.live(read_gallery(galleries, "staff")[0]).current
        assert index is not None
        seen.append((index.kind, index.count))
    assert seen == [("flat", 50), ("flat", 100), ("flat-fp16", 150), ("flat-fp16", 200)]


def test_embeddings_of_another_contract_are_never_compared(galleries: Galleries, reopen: Open) -> None:
    fill(galleries, "staff", "flat", people(3, 1), np.ones((3, 1), np.float32))
    galleries = reopen(contract_id="ec1-other")
    with pytest.raises(ContractMismatch, match=f"{CONTRACT}.*ec1-other"):
        identify(galleries, ["staff"], people(1, 1)[0], 1)
    with pytest.raises(ContractMismatch):
        store_templates(galleries, "staff", [("x", template(people(1, 1)[0, 0]))])
    with pytest.raises(GalleryUnknown):
        identify(galleries, ["none"], people(1, 1)[0], 1)


def test_the_nearest_template_does_not_hide_a_better_fused_subject(galleries: Galleries) -> None:
    """The nearest template only bounds a fused similarity; the search must reach the subjects behind it."""
    random = np.random.default_rng(5)
    crowd = unit(random.standard_normal((300, 1, DIMENSIONS)))
    probe = unit(random.standard_normal(DIMENSIONS))
    near = unit(probe + 0.9 / DIMENSIONS**0.5 * random.standard_normal((6, DIMENSIONS)))
    lure = unit(probe + 0.1 / DIMENSIONS**0.5 * random.standard_normal(DIMENSIONS))
    create_gallery(galleries, "staff", "flat")
    store_templates(galleries, "staff", [(f"crowd {n}", template(vectors[0])) for n, vectors in enumerate(crowd)])
    store_templates(galleries, "staff", [("steady", template(vector)) for vector in near])
    store_templates(galleries, "staff", [("mixed", template(lure)), ("mixed", template(-near[0]))])
    best = {fusion: identify(galleries, ["staff"], probe[None], 1, fusion)[0][0].subject for fusion in FUSIONS}
    assert best == {"max": "mixed", "mean": "steady", "quality-weighted": "steady"}
