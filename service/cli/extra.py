"""What only exporting needs is an extra; say so where it is missing."""

from importlib.util import find_spec

from models.errors import ExtraMissing

_NEEDED = ("torch", "onnxscript", "safetensors", "yaml")


def require_export_extra() -> None:
    """Refuse if a package of the extra `export` is not installed.

    Raises:
        ExtraMissing: One is not.
    """
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        raise ExtraMissing(
            f"{', '.join(missing)} is not installed; checkpoints need the extra `export`: pip install 'vultus[export]'"
        )
