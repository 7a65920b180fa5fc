from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import SubjectUnknown
from service.gallery.administration import create_gallery, merge_subjects, read_subject
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import identify
from service.gallery.records import IndexKind, NewTemplate
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import Open, people, template


def holders(directory: Path, vectors: NDArray[np.float32]) -> list[str]:
    """Names of files that hold any of these vectors, or half of one, in float32 or float16."""
    found = []
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        for vector in vectors.reshape(-1, vectors.shape[-1]):
            half = vector[: len(vector) // 2]
            if half.tobytes() in content or half.astype(np.float16).tobytes() in content:
                found.append(path.name)
                break
    return found


def name(subject: int) -> str:
    return f"the one numbered {subject}."


def fill(galleries: Galleries, kind: IndexKind, vectors: NDArray[np.float32]) -> None:
    create_gallery(galleries, "staff", kind, keep_crops=True)
    for subject, own in enumerate(vectors):
        entries = [template(vector, 3.0) for vector in own]
        crops = [NewTemplate(one.embedding, one.source, one.norm, None, b"crop" + one.source) for one in entries]
        store_templates(galleries, "staff", [(name(subject), one) for one in crops])
    galleries.wait_idle()


@pytest.mark.parametrize("kind", ["flat", "flat-fp16", "sq8", "hnsw"])
def test_nothing_of_an_erased_subject_is_in_any_file(galleries: Galleries, kind: IndexKind) -> None:
    vectors = people(150, 3)
    fill(galleries, kind, vectors)
    directory = galleries.directory
    assert holders(directory, vectors[4])  # the search finds what is there
    snapshots = list(directory.glob("*.graph"))
    assert bool(snapshots) == (kind == "hnsw")
    before = [path.read_bytes() for path in snapshots]
    sources = [one.source for one in read_subject(galleries, "staff", name(4))[1]]
    receipt = erase_subject(galleries, "staff", name(4))
    assert (receipt.subject_count, receipt.template_count, receipt.crop_count) == (1, 3, 3)
    assert all(name(4) not in [one.subject for one in own] for own in identify(galleries, ["staff"], vectors[4], 150))
    assert holders(directory, vectors[4]) == []  # without waiting for the audit already
    audit = check_erasure(galleries)
    assert audit.faults == []
    assert holders(directory, vectors[4]) == []
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    assert not any(source in content for source in sources)
    assert name(4).encode() not in content
    assert [path.read_bytes() for path in directory.glob("*.graph")] != before or kind != "hnsw"
    assert check_consistency(galleries, "staff").faults == []


def test_copies_that_sqlite_left_when_it_moved_rows_go_with_the_audit(galleries: Galleries) -> None:
    random = np.random.default_rng(2)
    vectors = people(300, 2)
    fill(galleries, "flat", vectors)
    erased = random.permutation(300)[:200]
    for subject in erased:
        erase_subject(galleries, "staff", name(subject))
    assert check_erasure(galleries).faults == []
    assert holders(galleries.directory, vectors[erased]) == []
    assert check_consistency(galleries, "staff").template_count == 200


def test_a_whole_gallery_goes(galleries: Galleries, reopen: Open) -> None:
    vectors = people(120, 2)
    fill(galleries, "hnsw", vectors)
    receipt = erase_gallery(galleries, "staff")
    assert (receipt.subject_count, receipt.template_count, receipt.crop_count) == (120, 240, 240)
    audit = check_erasure(galleries)
    assert audit.faults == []
    assert audit.bytes_after < audit.bytes_before
    assert holders(galleries.directory, vectors) == []
    galleries = reopen()
    with pytest.raises(SubjectUnknown):
        create_gallery(galleries, "staff")
        read_subject(galleries, "staff", name(1))


def test_a_file_that_does_not_belong_there_is_named(galleries: Galleries) -> None:
    (galleries.directory / "copy.sqlite").write_bytes(b"")
    assert check_erasure(galleries).faults == ["the file copy.sqlite is none of the galleries'"]


def test_an_index_that_differs_from_the_store_is_found(galleries: Galleries) -> None:
    vectors = people(20, 2)
    fill(galleries, "flat", vectors)
    with galleries.database.writing() as connection:
        connection.execute("UPDATE templates SET embedding = ? WHERE key = 5", (vectors[9, 0].tobytes(),))
    assert check_consistency(galleries, "staff").faults == ["1 vectors of the index are not those of the store"]
    with galleries.database.writing() as connection:
        connection.execute("DELETE FROM templates WHERE key IN (7, 8)")
    assert check_consistency(galleries, "staff").faults == [
        "the index lacks 0 templates and has 2 that are not in the store",
        "1 vectors of the index are not those of the store",
    ]


def test_a_merge_is_followed_by_every_kind_of_index(galleries: Galleries) -> None:
    fill(galleries, "hnsw", people(150, 2))
    merge_subjects(galleries, "staff", name(1), name(2))
    assert check_consistency(galleries, "staff").faults == []
