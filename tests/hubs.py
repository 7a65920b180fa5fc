"""A local Hub for tests, in the place of the one of the user's environment."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.hub.library import import_library
from tests.hub_server import FakeHub, fake_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A local Hub, which this process and those that it starts use, with an empty cache and without a token.

    The library reads its environment when it is imported, so its constants are replaced too.
    """
    if find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub, the extra `hub`, is not installed")
    constants = import_library().constants
    with fake_hub() as served:
        cache = tmp_path / "hub-cache"
        environment = {"HF_ENDPOINT": served.url, "HF_HUB_CACHE": str(cache), "HF_HOME": str(tmp_path / "hub-home")}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hub-home/token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served
