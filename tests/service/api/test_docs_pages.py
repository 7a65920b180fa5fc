"""The pages of the API come from this service alone and need no key."""

import re

import pytest

from tests.client import Guarded


def test_the_page_loads_only_files_of_this_service_and_no_inline_script(guarded: Guarded) -> None:
    page = guarded.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded == ["data:,", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]
    assert not re.findall(r"<script>|<style| on[a-z]+=|style=", page.text)
    for path in loaded[1:]:
        answer = guarded.client.get(f"/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
        assert len(answer.content) > 100
    assert "http" not in guarded.client.get("/docs/start.js").text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["index.html", "redoc.standalone.js", "..%2f__init__.py", "swagger-ui.js"])
def test_no_other_file_of_the_package_is_served(guarded: Guarded, name: str) -> None:
    key = guarded.key("verify")
    assert guarded.client.get(f"/docs/{name}", headers=key).status_code == 404
    assert guarded.client.get(f"/docs/{name}").status_code in (401, 404)
