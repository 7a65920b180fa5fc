"""References to files on the Hugging Face Hub: `hf:OWNER/REPO[@REVISION][/FILE]`."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from models.errors import HubReferenceInvalid
from models.text import quoted

_SCHEME = "hf:"
_FORM = "hf:OWNER/REPO[@REVISION][/FILE]"
_PARTS = re.compile(r"(?P<name>[^/@]*)(@(?P<revision>refs/pr/\d+|[^/]*))?(/(?P<file>.*))?", re.DOTALL)
# The names that huggingface_hub accepts, `validate_repo_id` in `utils/_validators.py`, version 2.4.
_NAME = re.compile(r"\w([\w.-]*\w)?", re.ASCII)
_MAX_LENGTH = 96
_NOT_IN_REVISIONS = re.compile(r"[\s\x00-\x1f\x7f~^:?*\[\\]|\.\.|@\{")  # git-check-ref-format
_OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets", "models")  # what stands before OWNER in other forms
_CODE = (".py", ".pyc", ".pyd", ".so", ".ipynb", ".sh")


@dataclass(frozen=True, slots=True)
class HubReference:
    """A reference to a repository, or to a file or folder in it.

    Attributes:
        owner, name: Names of the owner and of the repository.
        revision: Branch, tag or commit; None for the default branch.
        file: Path of a file or folder inside the repository; None for the whole repository.
    """

    owner: str
    name: str
    revision: str | None = None
    file: str | None = None

    @property
    def repository(self) -> str:
        """Owner and name, as the Hub writes them."""
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{_SCHEME}{self.repository}{at}" + ("" if self.file is None else f"/{self.file}")


def is_reference(text: str) -> bool:
    """Return whether a source is meant as a reference, not as a local path."""
    return text.startswith(_SCHEME)


def parse_reference(text: str) -> HubReference:
    """Read a reference. A slash inside a revision is written `%2F`, except in `refs/pr/1`.

    Raises:
        HubReferenceInvalid: The text does not have the form.
    """
    rest = text.removeprefix(_SCHEME)
    if rest.startswith("/"):
        raise _invalid(text, f"has a slash too many; write {_FORM}")
    owner, _, below = rest.partition("/")
    parts = _PARTS.fullmatch(below)
    if parts is None or not owner or not parts["name"]:
        raise _invalid(text, f"does not name an owner and a repository; write {_FORM}")
    if owner in _OTHER_KINDS:
        raise _invalid(text, f"begins with {owner}/; only repositories of models are read, as {_FORM}")
    _check_names(text, owner, parts["name"])
    revision, file = parts["revision"], parts["file"]
    if revision is not None:
        revision = _revision(text, revision)
    if file is not None:
        _check_file(text, file)
    return HubReference(owner, parts["name"], revision, file)


def _check_names(text: str, owner: str, name: str) -> None:
    for part, value in (("owner", owner), ("repository", name)):
        if not _NAME.fullmatch(value) or "--" in value or ".." in value or value.endswith(".git"):
            raise _invalid(
                text,
                f"has an invalid {part}, {quoted(value)}; names have letters, digits, single - and ., and _ , and "
                "neither begin nor end with - or .",
            )
    if len(owner) + 1 + len(name) > _MAX_LENGTH:
        raise _invalid(text, f"is too long; owner and repository have at most {_MAX_LENGTH} characters")


def _revision(text: str, written: str) -> str:
    if not written:
        raise _invalid(text, "has no revision after the @; give a branch, a tag or a commit, or leave out the @")
    try:
        revision = unquote(written, errors="strict")
    except UnicodeDecodeError as error:
        raise _invalid(text, f"has a revision that is not UTF-8, {quoted(written)}") from error
    is_shown = revision.isprintable() and "\ufffd" not in revision  # others could be taken for another revision
    if (
        not is_shown
        or _NOT_IN_REVISIONS.search(revision)
        or revision.startswith(("-", "/"))
        or revision.endswith(("/", ".", ".lock"))
    ):
        raise _invalid(text, f"has an invalid revision, {quoted(revision)}; give a branch, a tag or a commit")
    return revision


def _check_file(text: str, file: str) -> None:
    if not file:
        raise _invalid(text, "ends with a slash; give a file or a folder after it, or leave it out")
    if not file.isprintable() or "\\" in file or any(part in ("", ".", "..") for part in file.split("/")):
        raise _invalid(text, f"has the path {quoted(file)}, which is not one inside a repository")
    if file.lower().endswith(_CODE):
        raise _invalid(text, f"names code, {quoted(file)}, which is never downloaded; give weights or a graph")


def _invalid(text: str, why: str) -> HubReferenceInvalid:
    return HubReferenceInvalid(f"{quoted(text)} {why}")
