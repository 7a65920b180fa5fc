"""Chromium and a real service for the tests of the console, and what must never happen on its page."""

import base64
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Route

from tests.service.test_end_to_end import free_port, own_galleries

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = ("verify", "identify", "galleries", "model", "operation")

# Before any script of the page: report violations of the policy, and count the addresses of photos.
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  noteViolation(`${event.violatedDirective}: ${event.blockedURI}`));
window.liveAddresses = new Set();
const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = (content) => {
  const address = create.call(URL, content);
  window.liveAddresses.add(address);
  window.madeAddresses = (window.madeAddresses ?? 0) + 1;
  return address;
};
URL.revokeObjectURL = (address) => {
  window.liveAddresses.delete(address);
  revoke.call(URL, address);
};
"""

GIVE = """(element, [kind, files]) => {
  const transfer = new DataTransfer();
  for (const { name, type, content } of files) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  const options = { bubbles: true, cancelable: true };
  const event = kind === "drop"
    ? new DragEvent("drop", { ...options, dataTransfer: transfer })
    : new ClipboardEvent("paste", { ...options, clipboardData: transfer });
  element.dispatchEvent(event);
}"""


class Photo(NamedTuple):
    """A file that a person chooses, drops or pastes."""

    name: str
    content: bytes
    type: str = "image/jpeg"


class Service:
    """A service in another process, which can be killed and started again at its address."""

    def __init__(self, directory: Path, **settings: str) -> None:
        backups = {"VULTUS_BACKUP__DIRECTORY": str(directory / "backups")}
        self.environment = {**own_galleries(directory), **backups, **settings}
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._log = directory / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service, and return when it is ready."""
        with self._log.open("ab") as log:
            command = [*self._command(), "serve", "--port", str(self.port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.environment)
        with httpx2.Client(trust_env=False) as client:
            for _ in range(600):
                try:
                    client.get(f"{self.address}/readyz").raise_for_status()
                    return
                except httpx2.HTTPError:
                    assert self._process.poll() is None, self._log.read_text()
                    time.sleep(0.1)  # polling is the only way to wait for the socket of another process
        raise TimeoutError(self._log.read_text())

    def stop(self) -> None:
        """End the service at once."""
        if self._process:
            self._process.kill()
            self._process.wait(20)

    def make_key(self, name: str, scopes: str) -> str:
        """Return a new key, which was made with the command line."""
        command = [*self._command(), "keys", "create", name, "--scope", scopes]
        made = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        return next(word for word in made.stdout.split() if word.startswith("vultus_"))

    @contextmanager
    def client(self, key: str | None = None) -> Iterator[httpx2.Client]:
        """Yield a client of the API."""
        headers = {} if key is None else {"X-Api-Key": key}
        with httpx2.Client(base_url=self.address, headers=headers, timeout=60, trust_env=False) as client:
            yield client

    @staticmethod
    def _command() -> list[str]:
        return [sys.executable, "-c", "from service.cli.main import main; main()"]


class Visit:
    """A person's visit to the console in a browser without cookies; faults of the page are collected."""

    def __init__(self, browser: Browser, service: Service, **options: Any) -> None:
        self.faults: list[str] = []
        self.service = service
        self.context: BrowserContext = browser.new_context(locale="en-GB", accept_downloads=True, **options)
        self.context.set_default_timeout(20_000)
        self.context.expose_binding("noteViolation", lambda _, text: self.faults.append(f"policy: {text}"))
        self.context.add_init_script(WATCH)
        self.context.on("request", self._note_request)
        self.context.on("weberror", lambda error: self.faults.append(f"page: {error.error}"))
        self.context.on("console", lambda message: self._note_message(message.type, message.text))
        self.page: Page = self.context.new_page()

    def open(self, name: str = "verify") -> Page:
        """Open a page of the console; the clock of the page Operation can be put forward."""
        if name == "operation":
            self.page.clock.install()
        self.page.goto(f"{self.service.address}/console#{name}")
        return self.page

    def end(self) -> None:
        """Close the browser's window; whatever went wrong in it is an error."""
        self.context.close()
        assert self.faults == []

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.service.address}/", "data:", f"blob:{self.service.address}/")):
            self.faults.append(f"request to {request.url}")

    def _note_message(self, kind: str, text: str) -> None:
        if kind == "error" and "Content Security Policy" in text:
            self.faults.append(f"console: {text}")


class Held:
    """Requests of the page that wait on their way to the service until they are let go."""

    def __init__(self, page: Page, pattern: str) -> None:
        self.routes: list[Route] = []
        self._page = page
        self._is_open = False
        page.route(pattern, self._meet)

    def let_go(self) -> None:
        """Let the first that waits, and all others, arrive."""
        self._expect_one()
        self._is_open = True
        for route in self.routes:
            route.continue_()

    def cut(self) -> None:
        """Break the connections of those that wait, at least of one; later ones arrive."""
        self._expect_one()
        self._is_open = True
        for route in self.routes:
            route.abort("connectionreset")

    def _expect_one(self) -> None:
        """Wait until a request is on its way, which may be later than what the page shows of it."""
        for _ in range(1_500):
            if self.routes:
                return
            self._page.wait_for_timeout(10)
        raise TimeoutError("the page sent no such request")

    def _meet(self, route: Route) -> None:
        if self._is_open:
            route.continue_()
        else:
            self.routes.append(route)


def go_to(page: Page, name: str) -> None:
    """Go to another page of the console by its link."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    page.get_by_role("heading", level=1, name=name).wait_for()


def read_numbers(page: Page, times: int) -> None:
    """Let the page Operation read its numbers, without waiting for its clock."""
    for _ in range(times):
        with page.expect_response("**/metrics"):
            page.clock.run_for(2_000)


def give(place: Locator, photos: Sequence[Photo], kind: str = "drop") -> None:
    """Drop files on an element, or paste them into it."""
    files = [
        {"name": photo.name, "type": photo.type, "content": base64.b64encode(photo.content).decode()}
        for photo in photos
    ]
    place.evaluate(GIVE, [kind, files])


def payloads(*photos: Photo) -> list[Any]:
    """Return files as those that a person chooses in the dialog of the browser."""
    return [{"name": photo.name, "mimeType": photo.type, "buffer": photo.content} for photo in photos]


def side(page: Page, name: str) -> Locator:
    """Return one of the two sides of the page Verify."""
    return page.get_by_role("group", name=f"Photo {name}")


def choose(page: Page, name: str, photo: Photo) -> None:
    """Choose the photo of a side of the page Verify."""
    page.get_by_label(f"Choose a photo {name}").set_input_files(payloads(photo))


def use_key(page: Page, key: str, remember: bool = False) -> None:
    """Give a key to the page, which asks for one."""
    dialog = page.get_by_role("dialog", name="A key is needed")
    dialog.get_by_label("Key", exact=True).fill(key)
    dialog.get_by_label("Keep it until this tab is closed").set_checked(remember)
    dialog.get_by_role("button", name="Use this key").click()


def axe_findings(page: Page) -> list[str]:
    """Return what the rules of WCAG 2.2 AA find wrong on the page as it is."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    found: Mapping[str, Any] = page.evaluate(
        "(tags) => axe.run(document, { runOnly: { type: 'tag', values: tags } })", AXE_TAGS
    )
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def live_addresses(page: Page) -> int:
    """Return how many addresses of photos were made and not given back."""
    return int(page.evaluate("() => window.liveAddresses.size"))


def made_addresses(page: Page) -> int:
    """Return how many addresses of photos were made."""
    return int(page.evaluate("() => window.madeAddresses ?? 0"))
