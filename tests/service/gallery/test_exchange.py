import base64
import json
from typing import Any

import numpy as np
import pytest

from models.errors import VultusError
from service.gallery.administration import create_gallery, create_subject, read_gallery, read_subject
from service.gallery.exchange import FORMAT, export_lines, import_lines
from service.gallery.galleries import Galleries
from service.gallery.identification import templates_of
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, people, template

VECTOR = people(1, 1)[0, 0]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def line(**members: Any) -> bytes:
    entry = {"subject": "ann", "contract_id": CONTRACT, "embedding": VECTOR.tolist(), **members}
    return json.dumps(entry).encode()


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
