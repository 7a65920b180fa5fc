"""The optional dependencies: which part of the program needs which extra of the distribution."""

from importlib.util import find_spec
from typing import Literal, NamedTuple

from models.errors import ExtraMissing

ExtraName = Literal["export", "evaluate", "heic"]


class Extra(NamedTuple):
    """An extra of `pyproject.toml`.

    Attributes:
        packages: Names by which its packages are imported.
        needed_by: What does not work without it.
    """

    packages: tuple[str, ...]
    needed_by: str


EXTRAS: dict[ExtraName, Extra] = {
    "export": Extra(
        ("torch", "onnxscript", "safetensors", "yaml"),
        "vultus export, vultus import, and vultus inspect of a checkpoint",
    ),
    "evaluate": Extra(("jinja2", "matplotlib"), "--html of vultus evaluate and vultus calibrate"),
    "heic": Extra(("pillow_heif",), "photos in HEIC"),
}


def require_extra(name: ExtraName) -> None:
    """Refuse work whose extra is not installed.

    Raises:
        ExtraMissing: A package of it is missing.
    """
    extra = EXTRAS[name]
    missing = [package for package in extra.packages if find_spec(package) is None]
    if missing:
        raise ExtraMissing(
            f"{', '.join(missing)} is not installed; {extra.needed_by} need the extra `{name}`: "
            f"pip install 'vultus[{name}]'"
        )
