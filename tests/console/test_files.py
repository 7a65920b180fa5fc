"""The files of the console: what they weigh, what they may do in a browser, and who may read them."""

import re
from pathlib import Path

import pytest

from models.serving.models import Models
from service.console.files import PAGE, console_files
from service.gallery.galleries import Galleries
from service.settings import HttpSettings, Settings
from tests.client import Guarded, guarded_client

MAX_BYTES = 200_000
SCRIPTS = {name: file.content.decode() for name, file in console_files().items() if name.endswith(".js")}
USED = re.compile(r'\bsay\(\s*"([^"]+)"|"((?:[a-z]+)\.[a-z0-9_]+)"')


def test_the_page_and_its_files_need_no_key(guarded: Guarded) -> None:
    page = guarded.client.get("/console")
    assert page.status_code == 200
    for name in re.findall(r'(?:src|href)="(console/[^"]+)"', page.text):
        assert guarded.client.get(f"/{name}").status_code == 200
    for name in SCRIPTS:
        answer = guarded.client.get(f"/console/{name}")
        assert answer.headers["content-type"].startswith("text/javascript")


def test_nothing_but_the_files_of_the_page_is_loaded(guarded: Guarded) -> None:
    policy = guarded.client.get("/console").headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path", ["/console/../settings.py", "/console/%2e%2e/files.py", "/console/none.js", "/consoles"]
)
def test_other_paths_are_no_files_of_the_page(guarded: Guarded, path: str) -> None:
    answer = guarded.client.get(path)
    assert answer.status_code in (401, 404)
    assert "code" in answer.json()


def test_an_unchanged_file_is_not_sent_again(guarded: Guarded) -> None:
    first = guarded.client.get("/console/app.js")
    again = guarded.client.get("/console/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_slash_at_the_end_leads_to_the_page(guarded: Guarded) -> None:
    answer = guarded.client.get("/console/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "../console")


def test_the_console_can_be_switched_off(fake_models: Models, galleries: Galleries, tmp_path: Path) -> None:
    settings = Settings(http=HttpSettings(console=False))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        assert guarded.client.get("/console").status_code == 404
        assert guarded.client.get("/console/app.js").status_code == 404


def test_the_files_are_small_and_name_no_other_server() -> None:
    contents = [file.content for file in console_files().values()]
    assert PAGE in console_files()
    assert sum(map(len, contents)) < MAX_BYTES
    for content in contents:
        assert set(re.findall(rb"https?://[^\"'\s]+", content)) <= {b"http://www.w3.org/2000/svg"}


def test_no_script_makes_markup_of_a_text() -> None:
    for name, script in SCRIPTS.items():
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage", script
        )
        assert found is None, (name, found)


def test_the_page_asks_for_all_modules_at_once() -> None:
    page = console_files()[PAGE].content.decode()
    named = set(re.findall(r'rel="modulepreload" href="console/([^"]+)"', page))
    assert named == set(SCRIPTS) - {"types.js"}  # of which nothing is left but comments


def test_every_text_is_used() -> None:
    texts = set(re.findall(r'^  "([a-z]+\.[a-z0-9_]+)":', SCRIPTS["strings.js"], re.M))
    used = {
        one or other for name, script in SCRIPTS.items() if name != "strings.js" for one, other in USED.findall(script)
    }
    named_by_the_api = {text for text in texts if text.startswith(("reason.", "scope."))}
    assert len(texts) > 100
    assert texts - used - named_by_the_api == set()
