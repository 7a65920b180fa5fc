"""A local server that speaks the Hugging Face Hub's API as far as `huggingface_hub` uses it to download files.

Seen by running huggingface_hub 2.4: `GET /api/models/OWNER/REPO[/revision/REVISION]?blobs=True` for the commit and the
files, `HEAD` and `GET /OWNER/REPO/resolve/COMMIT/PATH` for a file, the latter with `Range` after a cut connection. It
sends no header of Xet, so that the library downloads over HTTP. Large files are redirected to another path, as on the
Hub.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".pt", ".onnx", ".bin", ".data")  # stored apart from Git
TOKEN = "hf_test_token_of_nobody"

Files = dict[str, bytes]


@dataclass
class FakeRepository:
    """A repository.

    Attributes:
        commits: Its files by path, by commit.
        revisions: Commits by branch or tag.
        needs: Error code for those who send no token, `GatedRepo` or `RepoNotFound`; None for a public repository.
    """

    commits: dict[str, Files]
    revisions: dict[str, str]
    needs: str | None = None


@dataclass
class FakeHub:
    """The Hub, with what it was asked, and faults to play.

    Attributes:
        url: Its address.
        repositories: Repositories by owner and name.
        requests: Method, path and header `Range` of each request.
        headers: All headers of each request.
        cut_after: Number of bytes after which connections of downloads are cut, as often as `cuts`.
        cuts: How often.
        replaced: Bytes that are sent instead of those of a path.
        status: Status of every answer to a download; 0 for the right one.
        described: Body of every answer about a repository; empty for the right one.
    """

    url: str = ""
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cut_after: int = 0
    cuts: int = 0
    replaced: Files = field(default_factory=dict)
    status: int = 0
    described: bytes = b""

    def publish(self, repository: str, files: Files, revision: str = "main") -> str:
        """Commit files to a branch, and return the commit."""
        known = self.repositories.setdefault(repository, FakeRepository({}, {}))
        names = json.dumps({path: hashlib.sha1(content).hexdigest() for path, content in files.items()}, sort_keys=True)
        commit = hashlib.sha1(names.encode()).hexdigest()
        known.commits[commit] = files
        known.revisions[revision] = commit
        return commit

    def downloads(self) -> list[str]:
        """Return the paths of the files that were asked for with GET, each once."""
        paths = [
            path.partition("/resolve/")[2].partition("/")[2] for method, path, _ in self.requests if method == "GET"
        ]
        return sorted({path for path in paths if path})


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run the server until the block ends."""
    hub = FakeHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers["Range"]))
        self.hub.headers.append(dict(self.headers))
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._describe(name, revision or "main")
        elif "/resolve/" in path:
            name, _, rest = path.removeprefix("/cdn").strip("/").partition("/resolve/")
            commit, _, file = rest.partition("/")
            self._download(name, commit, file, is_redirected=path.startswith("/cdn/"))
        else:
            self._refuse(404, "EntryNotFound")

    def _find(self, name: str, revision: str) -> tuple[str, Files] | None:
        found = self.hub.repositories.get(name)
        if found is None:
            self._refuse(404, "RepoNotFound")
        elif found.needs and self.headers["authorization"] != f"Bearer {TOKEN}":
            self._refuse(403 if found.needs == "GatedRepo" else 401, found.needs)
        elif (commit := found.revisions.get(revision, revision)) not in found.commits:
            self._refuse(404, "RevisionNotFound")
        else:
            return commit, found.commits[commit]
        return None

    def _describe(self, name: str, revision: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        commit, files = found
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": git_digest(content),
                **(
                    {"lfs": {"size": len(content), "sha256": sha256(content), "pointerSize": 134}}
                    if large(path)
                    else {}
                ),
            }
            for path, content in files.items()
        ]
        body = json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
        self._send(200, self.hub.described or body, {})

    def _download(self, name: str, commit: str, file: str, is_redirected: bool) -> None:
        found = self._find(name, commit) if not is_redirected else (commit, self.hub.repositories[name].commits[commit])
        if found is None:
            return
        if self.hub.status:
            self._refuse(self.hub.status, "")
            return
        content = found[1].get(file)
        if content is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        digest = sha256(content) if large(file) else git_digest(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        content = self.hub.replaced.get(file, content)
        if large(file) and not is_redirected:
            more = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self._send(302, b"", {**headers, **more, "Location": f"{self.hub.url}/cdn/{name}/resolve/{commit}/{file}"})
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cuts > 0 and status in (200, 206) and "/resolve/" in self.path:
            self.hub.cuts -= 1
            content, self.close_connection = content[: self.hub.cut_after], True
        self.wfile.write(content)


def large(path: str) -> bool:
    return path.endswith(LARGE)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_digest(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
