"""Pack manifests: TOML files that list the files of a pack and their sources, validated when read."""

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from models.alignment import TEMPLATES
from models.detection import HEADS
from models.errors import ManifestInvalid, PackUnknown

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
# Without path separators, so that a file stays in its directory.
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DirectorySource(_Table):
    """A file of the same name in a local directory."""

    directory: Path


class HttpsSource(_Table):
    """A file on a web server."""

    url: Annotated[str, Field(pattern=r"^https://")]


class WheelSource(_Table):
    """A member of a wheel on the package index that pip is configured to use."""

    wheel: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    member: str


class HubSource(_Table):
    """A file in a repository of the Hugging Face Hub, at a commit."""

    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    path: str


def _kind_of_source(value: Any) -> str:
    members = value if isinstance(value, dict) else value.__dict__
    return next((kind for kind in ("url", "wheel", "hub") if kind in members), "directory")


Source = Annotated[
    Annotated[DirectorySource, Tag("directory")]
    | Annotated[HttpsSource, Tag("url")]
    | Annotated[WheelSource, Tag("wheel")]
    | Annotated[HubSource, Tag("hub")],
    Discriminator(_kind_of_source),
]


class PackFile(_Table):
    """A published file with its SHA-256 and its sources, in the order in which they are tried."""

    name: _FileName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sources: tuple[Source, ...] = ()


NOT_STATED = "not stated"


class _Network(_Table):
    """A published graph. Its input is `(pixel - mean) / std` in `color` order.

    A licence of the weights does not say on which faces they were trained, so `training_data` says it, or that the
    authors do not document it, with the source of the statement.
    """

    family: str
    file: str
    licence: str
    training_data: str = NOT_STATED
    color: Literal["rgb", "bgr"]
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0


class DetectorEntry(_Network):
    """The detector of a pack."""


class RecognizerEntry(_Network):
    """The recognizer of a pack."""

    name: str
    architecture: str
    template: str


class Manifest(_Table):
    """A pack. Kind `models` has a detector, a recognizer, or both; kind `photos` holds unconverted files."""

    name: _Name
    summary: str
    kind: Literal["models", "photos"]
    detector: DetectorEntry | None = None
    recognizer: RecognizerEntry | None = None
    files: tuple[PackFile, ...]

    @model_validator(mode="after")
    def _is_complete(self) -> "Manifest":
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError("a file is listed twice")
        if self.kind == "models":
            entries = [entry for entry in (self.detector, self.recognizer) if entry is not None]
            if not entries:
                raise ValueError("a pack of models requires a [detector] or a [recognizer]")
            for entry in entries:
                if entry.file not in names:
                    raise ValueError(f"{entry.file} is not listed in files")
            if self.detector is not None and self.detector.family not in HEADS:
                raise ValueError(f"the detector family must be one of {', '.join(sorted(HEADS))}")
            if self.recognizer is not None and self.recognizer.template not in TEMPLATES:
                raise ValueError(f"the template must be one of {', '.join(sorted(TEMPLATES))}")
        return self

    def file(self, name: str) -> PackFile:
        """Return the entry of a file listed in the manifest."""
        return next(file for file in self.files if file.name == name)


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest.

    Raises:
        ManifestInvalid: The file cannot be read or does not follow the format.
    """
    try:
        members = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestInvalid(f"{path} cannot be read as a manifest: {error}") from error
    return make_manifest(members, str(path))


def make_manifest(members: dict[str, Any], where: str) -> Manifest:
    """Make a manifest of its members.

    Args:
        members: The members.
        where: Where they come from, for the message.

    Raises:
        ManifestInvalid: A member is missing, unknown or invalid.
    """
    try:
        return Manifest.model_validate(members)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the manifest"
        raise ManifestInvalid(f"{where}: {place}: {first['msg']}") from error


def manifest_text(manifest: Manifest) -> str:
    """Return a manifest as TOML, which `read_manifest` reads."""
    members = manifest.model_dump(mode="json", exclude_none=True)
    files = members.pop("files")
    tables = [name for name, value in members.items() if isinstance(value, dict)]
    lines = [f"{name} = {_toml(value)}" for name, value in members.items() if name not in tables]
    for table in tables:
        lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in members[table].items())]
    for file in files:
        lines += ["", "[[files]]", *(f"{name} = {_toml(value)}" for name, value in file.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(member)}" for name, member in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # strings and numbers are written alike in JSON and TOML


def list_manifests() -> list[Manifest]:
    """Return the built-in manifests, sorted by name."""
    return [read_manifest(path) for path in sorted(_built_in().glob("*.toml"))]


def find_manifest(name: str) -> Manifest:
    """Return a built-in manifest by name, or read a manifest from a path that ends in `.toml`.

    Raises:
        PackUnknown: No built-in manifest has that name.
        ManifestInvalid: The file is not a manifest.
    """
    if name.endswith(".toml"):
        return read_manifest(Path(name))
    manifests = {manifest.name: manifest for manifest in list_manifests()}
    if name not in manifests:
        raise PackUnknown(f"unknown pack {name!r}; available packs: {', '.join(manifests)}")
    return manifests[name]


def calibration_file(name: str) -> Path | None:
    """Return the path of the built-in calibration of a pack, or None."""
    path = _built_in() / f"{name}.calibration.json"
    return path if path.is_file() else None


def int8_plan_file(name: str) -> Path | None:
    """Return the path of the built-in plan of a pack's int8 recognizer, or None; see `models.export.precision.plan`."""
    path = _built_in() / f"{name}.int8.json"
    return path if path.is_file() else None


def _built_in() -> Path:
    return Path(str(resources.files("models.packs"))) / "manifests"
