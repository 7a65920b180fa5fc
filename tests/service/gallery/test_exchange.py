import base64
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from models.errors import VultusError
from service.errors import GalleryUnknown, SubjectFull
from service.gallery import exchange
from service.gallery.administration import (
    change_gallery,
    change_subject,
    create_gallery,
    create_subject,
    list_subjects,
    merge_subjects,
    read_gallery,
    read_subject,
)
from service.gallery.consistency import check_consistency
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.exchange import Importer, export_lines, import_lines
from service.gallery.exchange_format import FORMAT
from service.gallery.galleries import Galleries
from service.gallery.identification import templates_of
from service.gallery.records import NewTemplate
from service.gallery.store import gallery_rows, subject_rows, template_rows
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, people, template

VECTOR = people(1, 1)[0, 0]
PNG = b"\x89PNG\r\n\x1a\n"


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def line(**members: Any) -> bytes:
    entry = {"subject": "ann", "contract_id": CONTRACT, "embedding": VECTOR.tolist(), **members}
    return json.dumps(entry).encode()


def header(**members: Any) -> bytes:
    return json.dumps({"format": FORMAT, "contract_id": CONTRACT, **members}).encode()


def contents(galleries: Galleries, name: str) -> dict[str, Any]:
    """Return everything that a gallery stores, without the keys of rows."""
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
        rows = list(template_rows.export_rows(connection, gallery, 0, 2**62))
        owners = dict(zip(*(part.tolist() for part in template_rows.owners(connection, gallery)), strict=True))
        names = subject_rows.names(connection, sorted(set(owners.values())))
    templates = [
        (names[owners[key]], template.source, template.embedding.tobytes(), template.norm, template.quality,
         template.created, template.crop)
        for key, template in rows
    ]  # fmt: skip
    subjects = [
        (subject.name, subject.metadata, subject.created, subject.template_count)
        for subject in list_subjects(galleries, name, "", -1)
    ]
    return {
        **{key: value for key, value in asdict(gallery).items() if key not in ("key", "name")},
        "subjects": subjects,
        "templates": templates,
    }


def exported_gallery(galleries: Galleries) -> list[bytes]:
    create_gallery(galleries, "staff", "flat-fp16", True, {"site": "north"}, 12.5)
    create_subject(galleries, "staff", "no template yet", {"since": "2026"})
    create_subject(galleries, "staff", "Zoë", {"badge": 7})
    for number, vectors in enumerate(people(20, 3)):
        for vector in vectors:
            source = vector.tobytes()
            unlike = (1.002 * vector).astype(np.float32)  # an engine in bf16 returns such lengths
            crop = PNG + source if number % 2 else None
            entry = NewTemplate(unlike, template(vector).source, 7.5, 33.25 if number % 3 else None, crop)
            store_templates(galleries, "staff", [(f"s{number}" if number else "Zoë", entry)])
    with galleries.database.writing() as connection:  # times long ago
        connection.execute("UPDATE galleries SET created = 1e9 + 0.125")
        connection.execute("UPDATE subjects SET created = 1.1e9 + key / 8.0")
        connection.execute("UPDATE templates SET created = 1.2e9 + key / 8.0")
    return list(export_lines(galleries, "staff"))


def test_an_imported_gallery_is_the_exported_one_field_by_field(galleries: Galleries) -> None:
    lines = exported_gallery(galleries)
    create_gallery(galleries, "copy")
    list(import_lines(galleries, "copy", lines))
    assert contents(galleries, "copy") == contents(galleries, "staff")
    galleries.wait_idle()
    report = check_consistency(galleries, "copy")
    assert (report.index, report.faults) == ("flat-fp16", [])
    again = list(export_lines(galleries, "copy"))
    assert again[1:] == lines[1:]


def test_settings_that_a_gallery_has_set_itself_or_with_subjects_stay(galleries: Galleries) -> None:
    lines = exported_gallery(galleries)
    create_gallery(galleries, "own", "sq8", False, {"site": "south"})
    list(import_lines(galleries, "own", lines))
    own = read_gallery(galleries, "own")[0]
    assert (own.index, own.keep_crops, own.metadata, own.min_quality) == ("sq8", True, {"site": "south"}, 12.5)
    create_gallery(galleries, "used")
    create_subject(galleries, "used", "ann")
    before = read_gallery(galleries, "used")[0]
    list(import_lines(galleries, "used", lines))
    assert read_gallery(galleries, "used")[0] == before
    assert not any(stored.has_crop for stored in read_subject(galleries, "used", "s1")[1])  # it keeps no crops


def test_a_file_of_the_first_version_is_read(galleries: Galleries) -> None:
    lines = [
        json.dumps({"format": "vultus-templates/1", "contract_id": CONTRACT, "dimensions": DIMENSIONS}).encode(),
        json.dumps({"subject": "bob", "metadata": {"a": 1}, "contract_id": CONTRACT}).encode(),
        line(metadata={"badge": 7}, embedding=b64(VECTOR.tobytes()), norm=3.5, quality=None, created=1e9),
        json.dumps({"end": {"templates": 1}}).encode(),
    ]
    create_gallery(galleries, "staff", metadata={"site": "north"})
    before = read_gallery(galleries, "staff")[0]
    assert [*import_lines(galleries, "staff", lines)][-1].enrolled == 1
    assert read_gallery(galleries, "staff")[0] == before
    ann, (stored,) = read_subject(galleries, "staff", "ann")
    assert (ann.metadata, stored.norm, stored.created) == ({"badge": 7}, 3.5, 1e9)


@pytest.mark.parametrize("batch", [1, 100])
def test_metadata_of_later_lines_is_kept(galleries: Galleries, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(exchange, "IMPORT_BATCH_LINES", batch)
    create_gallery(galleries, "staff")
    create_subject(galleries, "staff", "bob", {"badge": 1})
    vectors = people(1, 5, 3)[0]
    given: list[dict[str, Any]] = [{}, {"a": 1}, {"b": [2]}, {}, {"a": 3}]
    lines = [
        line(embedding=vector.tolist(), **({"metadata": metadata} if metadata else {}))
        for vector, metadata in zip(vectors, given, strict=True)
    ]
    lines.append(json.dumps({"subject": "bob", "metadata": {"badge": 2, "door": 4}, "contract_id": CONTRACT}).encode())
    list(import_lines(galleries, "staff", lines))
    assert read_subject(galleries, "staff", "ann")[0].metadata == {"a": 3, "b": [2]}
    assert read_subject(galleries, "staff", "bob")[0].metadata == {"badge": 1, "door": 4}  # it was there before
    large = line(metadata={"c": "x" * 16_370})
    with pytest.raises(VultusError, match="metadata"):
        list(import_lines(galleries, "staff", [large]))
    assert read_subject(galleries, "staff", "ann")[0].metadata == {"a": 3, "b": [2]}


@pytest.mark.parametrize("batch", [1, 2, 4096])
@pytest.mark.parametrize("own_line_first", [True, False])
def test_the_own_line_of_a_subject_whose_templates_are_refused_is_stored(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch, batch: int, own_line_first: bool
) -> None:
    monkeypatch.setattr(exchange, "IMPORT_BATCH_LINES", batch)
    create_gallery(galleries, "staff")
    store_templates(galleries, "staff", [("ann", template(VECTOR))])
    taken = [line(subject=name, source=template(VECTOR).source.hex()) for name in ("bob", "eve")]
    own = json.dumps({"subject": "bob", "contract_id": CONTRACT, "metadata": {"badge": 7}, "created": 5.0}).encode()
    counts = [*import_lines(galleries, "staff", [own, *taken] if own_line_first else [*taken, own])][-1]
    assert (counts.enrolled, counts.refused) == (0, 2)
    assert [
        (subject.name, subject.metadata, subject.template_count)
        for subject in list_subjects(galleries, "staff", "", -1)
    ] == [("ann", {}, 1), ("bob", {"badge": 7}, 0)]
    assert read_subject(galleries, "staff", "bob")[0].created == 5.0


def test_an_export_is_imported_completely_and_once(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    create_subject(galleries, "staff", "Zoë", {"badge": 7})
    create_subject(galleries, "staff", "no template yet", {"since": "2026"})
    for number, vectors in enumerate(people(30, 3)):
        store_templates(galleries, "staff", [(f"s{number}", template(vector, 7.5)) for vector in vectors])
    store_templates(galleries, "staff", [("Zoë", template(VECTOR))])
    lines = list(export_lines(galleries, "staff"))
    create_gallery(galleries, "copy", "sq8")
    assert [*import_lines(galleries, "copy", lines)][-1].enrolled == 91
    assert read_gallery(galleries, "copy")[1:] == (32, 91)
    again = [*import_lines(galleries, "copy", lines)][-1]
    assert (again.enrolled, again.duplicates, again.refused) == (0, 91, 0)
    np.testing.assert_array_equal(templates_of(galleries, "copy", "Zoë").vectors[0], VECTOR)
    assert read_subject(galleries, "copy", "Zoë")[0].metadata == {"badge": 7}
    assert read_subject(galleries, "copy", "no template yet")[0].metadata == {"since": "2026"}
    assert [*map(json.loads, export_lines(galleries, "copy"))][1:] == [*map(json.loads, lines)][1:]


def test_a_truncated_export_is_refused(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    store_templates(galleries, "staff", [(f"s{n}", template(vectors[0])) for n, vectors in enumerate(people(9, 1))])
    lines = list(export_lines(galleries, "staff"))
    create_gallery(galleries, "copy")
    with pytest.raises(VultusError, match="truncated"):
        list(import_lines(galleries, "copy", lines[:-1]))
    with pytest.raises(VultusError, match="lines are missing"):
        list(import_lines(galleries, "copy", [lines[0], *lines[3:]]))
    assert read_gallery(galleries, "copy")[2] == 9
    with pytest.raises(VultusError, match="after the end"):
        list(import_lines(galleries, "copy", [*lines, line()]))


@pytest.mark.parametrize("lines", [[], [b"\n", b"\n"], [b"", b"  \r\n"]], ids=["empty", "newlines", "blank"])
def test_a_file_without_lines_is_refused_as_truncated(galleries: Galleries, lines: list[bytes]) -> None:
    create_gallery(galleries, "staff")
    with pytest.raises(VultusError, match="truncated: it has no lines") as raised:
        list(import_lines(galleries, "staff", lines))
    assert raised.value.code == "line_malformed"


def test_the_export_of_an_empty_gallery_is_imported(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    lines = list(export_lines(galleries, "staff"))
    assert len(lines) == 2
    assert Importer(galleries, "staff").store(lines).enrolled == 0
    list(import_lines(galleries, "staff", lines))


def test_an_import_stays_with_its_gallery_if_the_name_is_given_to_another_one(galleries: Galleries) -> None:
    create_gallery(galleries, "live")
    importer = Importer(galleries, "live")
    importer.store([line()])
    change_gallery(galleries, "live", "old")
    create_gallery(galleries, "live")
    importer.store([line(subject="ben", embedding=people(1, 2)[0, 1].tolist())])
    assert [read_gallery(galleries, name)[2] for name in ("old", "live")] == [2, 0]
    erase_gallery(galleries, "old")
    with pytest.raises(GalleryUnknown, match="the gallery was erased meanwhile"):
        importer.store([line(subject="eve")])
    assert read_gallery(galleries, "live")[2] == 0


def test_metadata_that_do_not_fit_name_their_line_and_the_lines_before_it_are_stored(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    create_subject(galleries, "staff", "x", {"a": "A" * 16_000})
    long = {"b": "B" * 16_000}
    names = [*(f"s{number}" for number in range(5)), "x", "z"]
    lines = [line(subject=name, embedding=None, metadata=long) for name in names]
    with pytest.raises(
        VultusError, match=r"line 6: the subject would have .* the lines before it are stored"
    ) as raised:
        list(import_lines(galleries, "staff", lines))
    assert raised.value.code == "line_malformed"
    assert [subject.name for subject in list_subjects(galleries, "staff", "", -1)] == [*sorted(names[:5]), "x"]


def test_a_subject_has_at_most_as_many_templates_as_allowed(galleries: Galleries) -> None:
    galleries.max_templates = 3
    create_gallery(galleries, "staff")
    vectors = people(1, 6)[0]
    lines = [line(subject=name, embedding=vectors[at].tolist()) for at, name in enumerate("aabaab")]
    with pytest.raises(
        SubjectFull, match=r"line 5: the subject would have more than 3 templates.* before it are stored"
    ):
        list(import_lines(galleries, "staff", lines))
    assert read_gallery(galleries, "staff")[1:] == (2, 4)
    entries = [("a", template(vectors[0])), ("a", template(vectors[4])), ("b", template(vectors[5]))]
    stored = store_templates(galleries, "staff", entries)
    assert [outcome.outcome for outcome in stored] == ["duplicate", "full", "enrolled"]
    with pytest.raises(SubjectFull):
        merge_subjects(galleries, "staff", "a", "b")
    assert check_consistency(galleries, "staff").faults == []


BAD: list[tuple[bytes, str, str]] = [
    (b"{", "line_malformed", "line 2: it is not JSON"),
    (b"[" * 100000, "line_malformed", "not JSON"),
    (b"[1]", "line_malformed", "not an object"),
    (line(subject=3), "line_malformed", "'subject'"),
    (line(subject="a/b"), "name_invalid", "slash"),
    (line(metadata=[]), "line_malformed", "'metadata'"),
    (line(contract_id=None), "line_malformed", "names the contract"),
    (line(contract_id="ec1-other"), "contract_mismatch", f"ec1-other.*{CONTRACT}"),
    (line(embedding="%%%"), "line_malformed", "base64"),
    (line(embedding=[1, "2"]), "line_malformed", "list of numbers"),
    (line(embedding=[True] * DIMENSIONS), "line_malformed", "neither base64 nor a list of numbers"),
    (line(embedding=[False, *VECTOR.tolist()[1:]]), "line_malformed", "neither base64 nor a list"),
    (line(norm=True), "line_malformed", "'norm' is not a number"),
    (line(quality=False), "line_malformed", "'quality' is not a number"),
    (line(subject_created=True), "line_malformed", "'subject_created' is not a number"),
    (line(crop="%"), "line_malformed", "'crop'"),
    (line(crop=b64(b"GIF89a")), "line_malformed", "'crop' is not base64 of a PNG"),
    (json.dumps({"end": {"templates": True}}).encode(), "line_malformed", "end line does not match"),
    (header(dimensions=DIMENSIONS + 1), "line_malformed", "'dimensions'"),
    (header(dimensions=True), "line_malformed", "'dimensions'"),
    (header(gallery={"index": "ivf"}), "line_malformed", "'index'"),
    (header(gallery={"keep_crops": 1}), "line_malformed", "'keep_crops'"),
    (header(gallery={"min_quality": True}), "line_malformed", "'min_quality'"),
    (header(gallery={"metadata": 3}), "line_malformed", "'metadata'"),
    (header(gallery={"colour": 3}), "line_malformed", "unknown member 'colour'"),
    (header(gallery=[]), "line_malformed", "'gallery' is not an object"),
    (line(embedding=[1.0, 2.0]), "embedding_wrong_dimension", f"2 numbers.*{DIMENSIONS}"),
    (line(embedding=[0.0] * DIMENSIONS), "embedding_zero", "zero"),
    (line(embedding=[1e300] * DIMENSIONS), "embedding_not_finite", "infinity"),
    (line(embedding=[float("nan")] * DIMENSIONS), "line_malformed", "NaN is not a JSON number"),
    (line(embedding=b64(np.full(DIMENSIONS, np.nan, "<f4").tobytes())), "embedding_not_finite", "NaN or"),
    (line(embedding=[10**400] * DIMENSIONS), "line_malformed", "too large"),
    (line(norm=10**400), "line_malformed", "'norm'"),
    (line(norm=1e300), "line_malformed", "between 0 and 1e"),
    (line(created=1e18), "line_malformed", "'created'"),
    (line(metadata={"a": "b" * 20_000}), "line_malformed", "'metadata'.*16384"),
    (line(metadata={"a": "\ud800"}), "line_malformed", "unpaired surrogate"),
    (line()[:-1] + b', "norm": 1, "norm": 2}', "line_malformed", "more than once"),
    (b'{"subject": "\xff"}', "line_malformed", "not valid UTF-8"),
    (line(norm=-1), "line_malformed", "'norm'"),
    (line(quality=101), "line_malformed", "'quality'.*100"),
    (line(created=True), "line_malformed", "'created'"),
    (line(source="ab"), "line_malformed", "SHA-256"),
    (line(colour="red"), "line_malformed", "unknown member 'colour'"),
    (json.dumps({"format": "other/1"}).encode(), "line_malformed", "other/1"),
    (json.dumps({"format": FORMAT, "contract_id": "ec1-other"}).encode(), "contract_mismatch", "ec1-other"),
]


@pytest.mark.parametrize(("bad", "code", "why"), BAD, ids=[why for _, _, why in BAD])
def test_a_bad_line_is_reported_and_earlier_lines_are_stored(
    galleries: Galleries, bad: bytes, code: str, why: str
) -> None:
    create_gallery(galleries, "staff")
    good = line(subject="good", embedding=people(1, 1, 3)[0, 0].tolist())
    with pytest.raises(VultusError, match=why) as raised:
        list(import_lines(galleries, "staff", [good, bad, line(subject="never")]))
    assert raised.value.code == code
    assert "line 2" in str(raised.value)
    assert read_gallery(galleries, "staff")[1:] == (1, 1)


def test_handwritten_lines_are_accepted_and_normalised(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    packed = base64.b64encode((2.5 * VECTOR).astype("<f4").tobytes()).decode()
    assert [*import_lines(galleries, "staff", [line(embedding=packed), b"", b"\n"])][-1].enrolled == 1
    np.testing.assert_allclose(templates_of(galleries, "staff", "ann").vectors[0], VECTOR, atol=1e-6)
    (stored,) = read_subject(galleries, "staff", "ann")[1]
    assert stored.norm == pytest.approx(2.5)


def test_metadata_that_no_response_can_hold_are_refused(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    deep = '{"a":' * 100 + "1" + "}" * 100
    for line in (f'{{"subject": "ann", "contract_id": "{CONTRACT}", "metadata": {deep}}}',):
        with pytest.raises(VultusError, match="nested deeper than 64 levels") as raised:
            list(import_lines(galleries, "staff", [line.encode()]))
        assert raised.value.code == "line_malformed"
    assert list_subjects(galleries, "staff", "", 10) == []


def test_the_export_of_a_gallery_that_is_erased_meanwhile_has_no_end(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_gallery(galleries, "staff")
    vectors = people(3, 1)[:, 0]
    store_templates(galleries, "staff", [(name, template(vector)) for name, vector in zip("abc", vectors, strict=True)])
    monkeypatch.setattr(exchange, "_EXPORTED_AT_ONCE", 1)
    lines = export_lines(galleries, "staff")
    begun = [next(lines), next(lines)]
    erase_gallery(galleries, "staff")
    assert not any(b'"end"' in line for line in [*begun, *lines])


def test_an_export_is_the_gallery_as_it_was_when_it_began(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_EXPORTED_AT_ONCE", 1)
    vectors = people(6, 2)
    create_gallery(galleries, "staff")
    for name in ("empty", "nobody", "erased too"):
        create_subject(galleries, "staff", name, {"badge": name})
    enrolled = [(name, template(vector)) for name, pair in zip("abcd", vectors, strict=False) for vector in pair]
    store_templates(galleries, "staff", enrolled)
    expected = [json.loads(line) for line in export_lines(galleries, "staff")]
    lines = export_lines(galleries, "staff")
    begun = [next(lines) for _ in range(5)]  # the header, the three empty subjects, and the first template
    change_subject(galleries, "staff", "a", new_name="was a", metadata={"badge": 8})
    change_subject(galleries, "staff", "b", new_name="a")
    merge_subjects(galleries, "staff", "a", "c")
    store_templates(galleries, "staff", [("late", template(vectors[5, 0])), ("d", template(vectors[5, 1]))])
    change_gallery(galleries, "staff", new_name="renamed")
    assert [json.loads(line) for line in [*begun, *lines]] == expected


def test_an_export_lacks_what_is_erased_before_its_line_is_read(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_EXPORTED_AT_ONCE", 1)
    create_gallery(galleries, "staff")
    for name in ("first", "empty"):
        create_subject(galleries, "staff", name)
    vectors = people(3, 1)[:, 0]
    store_templates(galleries, "staff", [(name, template(vector)) for name, vector in zip("abc", vectors, strict=True)])
    lines = export_lines(galleries, "staff")
    begun = [next(lines), next(lines)]
    for name in ("empty", "b"):
        erase_subject(galleries, "staff", name)
    read = [json.loads(line) for line in [*begun, *lines]]
    assert [line.get("subject") for line in read] == [None, "first", "a", "c", None]
    assert read[-1] == {"end": {"templates": 2}}
