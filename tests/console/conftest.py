"""A browser, real services with the default pack, and photos for the tests of the console."""

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.pictures import encode

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.console.browser import Photo, Service, Visit

HAS_PLAYWRIGHT = find_spec("playwright") is not None
collect_ignore = [] if HAS_PLAYWRIGHT else [path.name for path in Path(__file__).parent.glob("test_*.py")]
if not HAS_PLAYWRIGHT:
    collect_ignore.remove("test_files.py")

Open = Callable[..., "Visit"]
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """Chromium, for the tests of this package: its event loop must not stay when others run."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: make browser")
    expect.set_options(timeout=15_000)  # of a machine that does other things meanwhile
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *FAKE_CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator["Service"]:  # noqa: ARG001
    """A service that needs no key."""
    from tests.console.browser import Service

    service = Service(tmp_path_factory.mktemp("console"))
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="package")
def keyed(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator["Service"]:  # noqa: ARG001
    """A service that needs a key."""
    from tests.console.browser import Service

    service = Service(tmp_path_factory.mktemp("keyed"), VULTUS_SECURITY__KEYS="required")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="package")
def admin(keyed: "Service") -> str:
    """A key that may do everything."""
    return keyed.make_key("console", "admin")


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Open]:
    """Make visits, at whose end nothing may have gone wrong on the page."""
    from tests.console.browser import Visit

    visits: list[Visit] = []

    def make(service: "Service", **options: Any) -> Visit:
        visits.append(Visit(browser, service, **options))
        return visits[-1]

    yield make
    for one in visits:
        one.end()


@pytest.fixture(scope="package")
def portrait(photos: Path) -> "Photo":
    """A photo of one person, a PNG."""
    from tests.console.browser import Photo

    return Photo("astronaut.png", (photos / "astronaut.png").read_bytes(), "image/png")


@pytest.fixture(scope="package")
def altered(photos: Path) -> "Photo":
    """Another photo of that person: smaller, a JPEG of low quality."""
    from tests.console.browser import Photo

    with Image.open(photos / "astronaut.png") as image:
        small = image.convert("RGB").resize((image.width // 2, image.height // 2))
    return Photo("smaller.jpg", encode(small, "JPEG", quality=60))


@pytest.fixture(scope="package")
def group(photos: Path) -> "Photo":
    """A photo of six other people."""
    from tests.console.browser import Photo

    return Photo("group.jpg", (photos / "group.jpg").read_bytes())


@pytest.fixture(scope="package")
def people(service: "Service", group: "Photo") -> list["Photo"]:
    """A photo of each person of the group, from the left."""
    from tests.console.browser import Photo

    with service.client() as client:
        found = client.post("/v1/detect", content=group.content, headers={"Content-Type": "image/jpeg"}).json()
    boxes = sorted(face["box"] for face in found["items"][0]["faces"])
    with Image.open(BytesIO(group.content)) as image:
        crops = [
            image.convert("RGB").crop((int(a) - 40, int(b) - 40, int(c) + 40, int(d) + 40)) for a, b, c, d in boxes
        ]
    return [Photo(f"person-{at}.png", encode(crop), "image/png") for at, crop in enumerate(crops)]
