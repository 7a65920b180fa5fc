"""The optional dependencies: the extras of the distribution and the features that need them."""

from importlib.util import find_spec
from typing import Literal, NamedTuple

from models.errors import ExtraMissing

ExtraName = Literal["export", "evaluate", "heic", "hub", "tracing"]


class Extra(NamedTuple):
    """An extra of `pyproject.toml`.

    Attributes:
        packages: Import names of its packages.
        needed_by: Features that need the extra.
    """

    packages: tuple[str, ...]
    needed_by: str


EXTRAS: dict[ExtraName, Extra] = {
    "export": Extra(
        ("torch", "onnxscript", "safetensors", "yaml"),
        "vultus export, vultus import and vultus inspect of checkpoints",
    ),
    "evaluate": Extra(("jinja2", "matplotlib", "scipy"), "vultus evaluate and vultus calibrate"),
    "tracing": Extra(("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"), "VULTUS_TRACE__ENDPOINT"),
    "heic": Extra(("pillow_heif",), "photos in the HEIC format"),
    "hub": Extra(("huggingface_hub",), "hf:OWNER/REPO as a source of vultus packs, export and import"),
}


def require_extra(name: ExtraName) -> None:
    """Raise an error unless all packages of an extra are installed.

    Raises:
        ExtraMissing: A package of the extra is not installed.
    """
    extra = EXTRAS[name]
    missing = [package for package in extra.packages if not _is_installed(package)]
    if missing:
        raise ExtraMissing(
            f"missing packages: {', '.join(missing)}; the extra `{name}` is required for {extra.needed_by}; "
            f"run pip install 'vultus[{name}]'"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package in which it lies
        return False
