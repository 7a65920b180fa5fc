"""What the documents say is what the program does."""

import re
from pathlib import Path

import pytest

from models.extras import EXTRAS
from service.cli.main import COMMANDS
from service.settings import describe_settings
from tests.conftest import ROOT

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
DOCUMENTS += [ROOT / folder / "README.md" for folder in ("models", "service", "deploy")]
FRONT_PAGE_LINES = 200


def all_text() -> str:
    return "\n".join(path.read_text() for path in DOCUMENTS)


def anchors(path: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= FRONT_PAGE_LINES


def test_the_table_of_settings_is_generated() -> None:
    rows = [f"| `{name}` | {default} | {description} |" for name, default, description in describe_settings()]
    table = "\n".join(["| variable | default | what |", "| --- | --- | --- |", *rows])
    assert table in (ROOT / "service/README.md").read_text(), table


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z-]+)", all_text()))
    named |= set(re.findall(r"^make ([a-z-]+)", all_text(), re.MULTILINE))
    assert {"demo", "test", "test-full", "serve", "check", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_that_is_named_exists_and_every_command_is_named() -> None:
    named = set(re.findall(r"vultus ([a-z]+)\b", all_text()))
    assert named <= set(COMMANDS) | {"serve"}
    assert set(COMMANDS) <= named | set(re.findall(r"`([a-z]+)`", (ROOT / "README.md").read_text()))


def test_every_extra_is_described() -> None:
    deploy = (ROOT / "deploy/README.md").read_text()
    assert all(f"| `{name}` |" in deploy for name in EXTRAS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", document.read_text()):
        page = (document.parent / target).resolve() if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(document: Path) -> None:
    """Paths in code marks, relative to the page's folder or to the project."""
    for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9.]+)*(?:/|\.py))`", document.read_text()):
        assert (document.parent / name).exists() or (ROOT / name).exists(), name
