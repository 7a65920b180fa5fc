"""The documents agree with the program."""

import re
from pathlib import Path

import pytest

from models.extras import EXTRAS
from models.packs import list_manifests
from service.cli.main import COMMANDS
from service.settings import describe_settings
from tests.conftest import ROOT

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
DOCUMENTS += [ROOT / folder / "README.md" for folder in ("models", "service", "deploy")]
DOCUMENTS += sorted((ROOT / "service" / "compat").glob("*.md"))
FRONT_PAGE_LINES = 200


def all_text() -> str:
    return "\n".join(path.read_text() for path in DOCUMENTS)


def anchors(path: Path) -> set[str]:
    """Return the link targets of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= FRONT_PAGE_LINES


def test_the_table_of_settings_is_generated() -> None:
    rows = [f"| `{name}` | {default} | {description} |" for name, default, description in describe_settings()]
    table = "\n".join(["| variable | default | what |", "| --- | --- | --- |", *rows])
    assert table in (ROOT / "service/README.md").read_text(), table


def test_every_documented_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z-]+)", all_text()))
    named |= set(re.findall(r"^make ([a-z-]+)", all_text(), re.MULTILINE))
    assert {"demo", "test", "test-full", "serve", "check", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_documents_name_exactly_the_existing_commands() -> None:
    text = all_text().replace(
        "--rm vultus vultus", "vultus"
    )  # the service of docker compose has the name of the program
    named = set(re.findall(r"vultus ([a-z]+)\b", text))
    assert named <= set(COMMANDS) | {"serve"}
    assert set(COMMANDS) <= named | set(re.findall(r"`([a-z]+)`", (ROOT / "README.md").read_text()))


def test_the_table_of_packs_states_licences_and_training_data() -> None:
    text = (ROOT / "models/README.md").read_text()
    for manifest in list_manifests():
        for entry in (manifest.detector, manifest.recognizer):
            assert entry is None or f"| {entry.licence} | {entry.training_data} |" in text, manifest.name


def test_every_extra_is_documented() -> None:
    deploy = (ROOT / "deploy/README.md").read_text()
    assert all(f"| `{name}` |" in deploy for name in EXTRAS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_has_a_target(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", document.read_text()):
        page = (document.parent / target).resolve() if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_documented_file_exists(document: Path) -> None:
    """A path in backquotes is relative to the folder of the page or to the project."""
    for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9.]+)*(?:/|\.py))`", document.read_text()):
        assert (document.parent / name).exists() or (ROOT / name).exists(), name
