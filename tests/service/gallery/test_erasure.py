from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import SubjectUnknown
from service.gallery.administration import create_gallery, merge_subjects, read_subject
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.encryption import Encryption
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import identify
from service.gallery.records import IndexKind, NewTemplate
from service.gallery.store.contents import seal_values
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, UNEXPECTED, Open, people, template


def files_with(directory: Path, vectors: NDArray[np.float32]) -> list[str]:
    """Return the names of files that contain a vector, or its first half, in float32 or float16."""
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
    return f"subject number {subject}."


def fill(galleries: Galleries, kind: IndexKind, vectors: NDArray[np.float32]) -> None:
    create_gallery(galleries, "staff", kind, keep_crops=True)
    for subject, subject_vectors in enumerate(vectors):
        entries = [template(vector, 3.0) for vector in subject_vectors]
        with_crops = [
            NewTemplate(entry.embedding, entry.source, entry.norm, None, b"crop" + entry.source) for entry in entries
        ]
        store_templates(galleries, "staff", [(name(subject), entry) for entry in with_crops])
    galleries.wait_idle()


@pytest.mark.parametrize("kind", ["flat", "flat-fp16", "sq8", "hnsw"])
def test_no_file_contains_an_erased_subject(
    galleries: Galleries, encryption: Encryption | None, kind: IndexKind
) -> None:
    vectors = people(150, 3)
    fill(galleries, kind, vectors)
    directory = galleries.directory
    if encryption is None:
        assert files_with(directory, vectors[4])  # proves that the search can find vectors
    else:
        assert files_with(directory, vectors) == []
    snapshots = list(directory.glob("*.graph"))
    assert bool(snapshots) == (kind == "hnsw")
    before = [path.read_bytes() for path in snapshots]
    sources = [entry.source for entry in read_subject(galleries, "staff", name(4))[1]]
    receipt = erase_subject(galleries, "staff", name(4))
    assert (receipt.subject_count, receipt.template_count, receipt.crop_count) == (1, 3, 3)
    found = identify(galleries, ["staff"], vectors[4], 150)
    assert all(name(4) not in [candidate.subject for candidate in candidates] for candidates in found)
    assert files_with(directory, vectors[4]) == []  # already before the check
    report = check_erasure(galleries)
    assert report.faults == []
    assert files_with(directory, vectors[4]) == []
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    assert not any(source in content for source in sources)
    assert name(4).encode() not in content
    assert [path.read_bytes() for path in directory.glob("*.graph")] != before or kind != "hnsw"
    assert check_consistency(galleries, "staff").faults == []


def test_the_check_removes_copies_left_by_moved_rows(galleries: Galleries) -> None:
    random = np.random.default_rng(2)
    vectors = people(300, 2)
    fill(galleries, "flat", vectors)
    erased = random.permutation(300)[:200]
    for subject in erased:
        erase_subject(galleries, "staff", name(subject))
    assert check_erasure(galleries).faults == []
    assert files_with(galleries.directory, vectors[erased]) == []
    assert check_consistency(galleries, "staff").template_count == 200


def test_a_gallery_is_erased_with_all_its_contents(galleries: Galleries, reopen: Open) -> None:
    vectors = people(120, 2)
    fill(galleries, "hnsw", vectors)
    receipt = erase_gallery(galleries, "staff")
    assert (receipt.subject_count, receipt.template_count, receipt.crop_count) == (120, 240, 240)
    report = check_erasure(galleries)
    assert report.faults == []
    assert report.bytes_after < report.bytes_before
    assert files_with(galleries.directory, vectors) == []
    galleries = reopen()
    with pytest.raises(SubjectUnknown):
        create_gallery(galleries, "staff")
        read_subject(galleries, "staff", name(1))


def test_an_unexpected_file_is_reported(galleries: Galleries) -> None:
    (galleries.directory / "copy.sqlite").write_bytes(b"")
    assert check_erasure(galleries).faults == [f"the file copy.sqlite {UNEXPECTED}"]


def test_an_index_that_differs_from_the_store_is_reported(galleries: Galleries) -> None:
    vectors = people(20, 2)
    fill(galleries, "flat", vectors)
    with galleries.database.writing() as connection:
        [other] = seal_values(connection, "embedding", [CONTRACT], [3], [5], [vectors[9, 0].tobytes()])
        connection.execute("UPDATE templates SET embedding = ? WHERE key = 5 AND subject = 3", (other,))
    assert check_consistency(galleries, "staff").faults == ["1 vectors of the index differ from the store"]
    with galleries.database.writing() as connection:
        connection.execute("DELETE FROM templates WHERE key IN (7, 8)")
    assert check_consistency(galleries, "staff").faults == [
        "the index lacks 0 templates and has 2 that are not in the store",
        "1 vectors of the index differ from the store",
    ]


def test_a_merge_updates_the_index(galleries: Galleries) -> None:
    fill(galleries, "hnsw", people(150, 2))
    merge_subjects(galleries, "staff", name(1), name(2))
    assert check_consistency(galleries, "staff").faults == []
