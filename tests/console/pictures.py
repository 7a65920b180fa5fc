"""Makes the pictures of the console's pages in documents: `python -m tests.console.pictures --out DIRECTORY`.

The people in them are drawn.
"""

import argparse
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.console.browser import Photo, Service, choose, go_to, payloads
from tests.console.drawn_faces import PEOPLE, draw_face, draw_group
from tests.console.drawn_faces import Photo as Drawing
from tests.pictures import encode

WIDTH, HEIGHT = 1100, 800
COLOURS = 128  # of a picture's palette, which makes its file a third as large
GALLERY = "crew"
ENROLLED = ("Bo", "Cleo")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        service = Service(Path(directory))
        service.start()
        try:
            _enrol(service)
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
            page.goto(f"{service.address}/console")
            for name, visit in PAGES.items():
                go_to(page, name)
                visit(page)
                _keep(page, out / f"{name.lower()}.png")
            browser.close()
        finally:
            service.stop()
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


def _verify(page: Page) -> None:
    choose(page, "A", _photo("one.png", draw_face(PEOPLE["Bo"])))
    choose(page, "B", _photo("other.png", draw_face(PEOPLE["Bo"], (150, 190, 160), light=0.5)))
    page.locator(".verdict").wait_for()


def _identify(page: Page) -> None:
    page.get_by_label("Name nobody twice").check()
    page.get_by_label("Choose photos").set_input_files(payloads(_photo("group.png", draw_group(list(PEOPLE.values())))))
    page.get_by_role("heading", name="Face 3").wait_for()


def _galleries(page: Page) -> None:
    page.get_by_role("button", name=f"Open {GALLERY}").click()
    page.get_by_role("button", name=ENROLLED[0], exact=True).click()
    page.get_by_role("button", name="Erase template 1").wait_for()


def _model(page: Page) -> None:
    page.get_by_role("heading", name="Parity").wait_for()


def _operation(page: Page) -> None:
    page.locator("figure").first.wait_for()


PAGES = {"Verify": _verify, "Identify": _identify, "Galleries": _galleries, "Model": _model, "Operation": _operation}


def _enrol(service: Service) -> None:
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": GALLERY, "keep_crops": True}).raise_for_status()
        for name in ENROLLED:
            photo = _photo(name, draw_face(PEOPLE[name], (120, 170, 190)))
            path = f"/v1/galleries/{GALLERY}/subjects/{name}/templates"
            client.post(path, files={"images": photo.content}).raise_for_status()


def _photo(name: str, drawing: Drawing) -> Photo:
    return Photo(name, encode(Image.fromarray(drawing[..., ::-1])), "image/png")


def _keep(page: Page, path: Path) -> None:
    picture = Image.open(BytesIO(page.screenshot(full_page=True)))
    picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
