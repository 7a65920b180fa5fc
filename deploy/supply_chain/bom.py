"""Bills of materials in CycloneDX, and the table of licences, of what a lock installs and the default pack.

Usage, in an environment in which everything is installed: `bom.py LOCK --bom FILE` or `bom.py LOCK --licences FILE`.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACK = ROOT / "models" / "packs" / "manifests" / "opencv-zoo.toml"

_SPDX = {  # of packages that name no SPDX licence
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_DECLARED_ELSEWHERE = {"protobuf": "BSD-3-Clause"}  # https://github.com/protocolbuffers/protobuf/blob/main/LICENSE
_BUNDLED = {
    "faiss-cpu": "libgfortran and libgomp (GPL-3.0 with the GCC exception), libquadmath (LGPL-2.1-or-later)",
    "numpy": "libgfortran (GPL-3.0 with the GCC exception), libquadmath (LGPL-2.1-or-later)",
    "opencv-python-headless": "FFmpeg (LGPL-2.1-or-later), libgfortran (GPL-3.0 with the GCC exception), "
    "libquadmath (LGPL-2.1-or-later), OpenSSL 1.1.1 (OpenSSL licence)",
    "pillow-heif": "libheif and libde265 (LGPL-3.0-or-later), x265 (GPL-2.0-or-later)",
}
"""Libraries in the wheels of packages whose licences ask more of who passes the image on than the package does."""


def canonical(name: str) -> str:
    """Return the normalised name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill(lock: Path) -> dict[str, Any]:
    """Return the bill of materials of the packages of a lock that are installed here, with the models of the pack."""
    command = ["environment", "--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON", sys.executable]
    done = subprocess.run([sys.executable, "-m", "cyclonedx_py", *command], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    locked = {canonical(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", lock.read_text(), re.MULTILINE)}
    found["components"] = [each for each in found["components"] if canonical(each["name"]) in locked]
    known = {each["bom-ref"] for each in found["components"]} | {"root-component"}
    found["dependencies"] = [
        {**each, "dependsOn": sorted(known & set(each.get("dependsOn", ())))}
        for each in found["dependencies"]
        if each["ref"] in known
    ]
    found["components"] += _models()
    return found


def _models() -> list[dict[str, Any]]:
    manifest = tomllib.loads(PACK.read_text())
    digests = {file["name"]: file["sha256"] for file in manifest["files"]}
    return [
        {
            "bom-ref": f"model/{model['file']}",
            "type": "machine-learning-model",
            "name": model["file"],
            "description": f"{role}; trained on: {model['training_data']}",
            "hashes": [{"alg": "SHA-256", "content": digests[model["file"]]}],
            "licenses": [{"license": {"id": model["licence"]}}],
        }
        for role, model in ((role, manifest[role]) for role in ("detector", "recognizer"))
    ]


def licence(component: dict[str, Any]) -> str:
    """Return the licence of a component as an SPDX expression; `unknown` if it declares none."""
    for entry in component.get("licenses", ()):
        if "expression" in entry:
            return str(entry["expression"])
        declared = entry["license"]
        if "id" in declared:
            return str(declared["id"])
        name = declared["name"].removeprefix("License :: OSI Approved :: ")
        if name in _SPDX:
            return _SPDX[name]
    return _DECLARED_ELSEWHERE.get(canonical(component["name"]), "unknown")


def licences(found: dict[str, Any]) -> str:
    """Return the table of licences in Markdown."""
    rows = [
        (canonical(each["name"]) if "version" in each else each["name"], licence(each)) for each in found["components"]
    ]
    lines = [
        "# Licences",
        "",
        "What the image `vultus:cpu` has beside its base and Vultus itself (Apache-2.0): packages of Python, by what",
        "they declare, and the models of the default pack. `make sbom` writes this table, and a test compares it.",
        "",
        "| component | licence | libraries in its wheel that ask more |",
        "| --- | --- | --- |",
        *(f"| {name} | {terms} | {_BUNDLED.get(name, '')} |" for name, terms in sorted(rows)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write a bill or the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", type=Path)
    parser.add_argument("--bom", type=Path)
    parser.add_argument("--licences", type=Path)
    options = parser.parse_args()
    found = bill(options.lock)
    if options.bom is not None:
        options.bom.parent.mkdir(parents=True, exist_ok=True)
        options.bom.write_text(json.dumps(found, indent=2) + "\n")
    if options.licences is not None:
        options.licences.write_text(licences(found))


if __name__ == "__main__":
    main()
