"""References to the Hub: what each form means, and a sentence for each that is malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import HubReferenceInvalid
from models.hub import HubReference, is_reference, parse_reference

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:minchul/cvlface_adaface_ir18", HubReference("minchul", "cvlface_adaface_ir18")),
        ("hf:o/r@main", HubReference("o", "r", "main")),
        (f"hf:o/r@{COMMIT}", HubReference("o", "r", COMMIT)),
        ("hf:o/r/a/b.pt", HubReference("o", "r", None, "a/b.pt")),
        ("hf:o/r@v1.0/a/b.pt", HubReference("o", "r", "v1.0", "a/b.pt")),
        ("hf:o/r@refs/pr/3/model.pt", HubReference("o", "r", "refs/pr/3", "model.pt")),
        ("hf:o/r@refs/pr/3", HubReference("o", "r", "refs/pr/3")),
        ("hf:o/r@fix%2Fcolour/model.pt", HubReference("o", "r", "fix/colour", "model.pt")),
        ("hf:o/r/file@2.onnx", HubReference("o", "r", None, "file@2.onnx")),
        ("hf:O-1/r.e_p-o", HubReference("O-1", "r.e_p-o")),
    ],
)
def test_reads_every_form(text: str, meant: HubReference) -> None:
    assert is_reference(text)
    assert parse_reference(text) == meant
    assert parse_reference(str(meant).replace("fix/colour", "fix%2Fcolour")) == meant


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hf:", "does not name an owner and a repository"),
        ("hf:repository", "does not name an owner and a repository"),
        ("hf:o/", "does not name an owner and a repository"),
        ("hf:o/@main", "does not name an owner and a repository"),
        ("hf://o/r", "has a slash too many; write hf:OWNER/REPO"),
        ("hf:datasets/o/r", "only repositories of models"),
        ("hf:models/o/r", "only repositories of models"),
        ("hf:o o/r", "invalid owner, o o"),
        ("hf:o/r--s", "invalid repository, r--s"),
        ("hf:o/.r", "invalid repository"),
        ("hf:o/r.git", "invalid repository"),
        (f"hf:o/{'r' * 95}", "at most 96 characters"),
        ("hf:o/r@", "no revision after the @"),
        ("hf:o/r@/a.pt", "no revision after the @"),
        ("hf:o/r@a b", "invalid revision, a b"),
        ("hf:o/r@a..b", "invalid revision"),
        ("hf:o/r@-x", "invalid revision"),
        ("hf:o/r@%E2%80%AE", "invalid revision"),
        ("hf:o/r@a%EF%BF%BD", "invalid revision"),
        ("hf:o/r@%ff", "a revision that is not UTF-8"),
        ("hf:o/r/", "ends with a slash"),
        ("hf:o/r@main/", "ends with a slash"),
        ("hf:o/r/../secret", "not one inside a repository"),
        ("hf:o/r//a.pt", "not one inside a repository"),
        ("hf:o/r/a\\b", "not one inside a repository"),
        ("hf:o/r/a\x1b[2J", "not one inside a repository"),
        ("hf:o/r/wrapper.py", "names code, wrapper.py, which is never downloaded"),
    ],
)
def test_says_what_is_wrong_with_a_malformed_reference(text: str, sentence: str) -> None:
    with pytest.raises(HubReferenceInvalid, match=sentence.replace("(", r"\(")) as caught:
        parse_reference(text)
    assert str(caught.value).isprintable()


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(f"hf:{text}")
    except HubReferenceInvalid:
        return
    assert reference.owner
    assert reference.name
    assert ".." not in (reference.file or "").split("/")


@pytest.mark.parametrize("path", ["model.pt", "./hf:o/r", "/hf:o/r", "HF:o/r", "C:model"])
def test_a_path_is_not_a_reference(path: str) -> None:
    assert not is_reference(path)
