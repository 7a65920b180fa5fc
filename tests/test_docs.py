"""What the README says is what the program does."""

import re

from service.settings import describe_settings
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_generated() -> None:
    rows = [f"| `{name}` | {default} | {description} |" for name, default, description in describe_settings()]
    table = "\n".join(["| variable | default | what |", "| --- | --- | --- |", *rows])
    assert table in README, table


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^\$? ?make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "serve", "check", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_relative_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
