"""`make gpu-bundle`: everything that `make gpu-check` needs, for a machine with a GPU and without a network.

The bundle holds the packages of `deploy/locks/gpu.txt`, the default pack, r50, r100 and mbf with drawn weights, and
`run.sh`, which installs and measures. TensorRT's libraries come from NVIDIA's index; without them TensorRT is not
measured.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from models.packs import PackStore, find_manifest
from service.settings import load_settings
from tests.bench.gpu_check.__main__ import NETWORKS
from tests.bench.speed.networks import PLANS, export

ROOT = Path(__file__).parents[3]
LOCKS = ROOT / "deploy" / "locks"
_PRECISIONS = "fp32,fp16,int8"
_PROJECT = ("models", "service", "tests", "deploy", "pyproject.toml", "README.md", "LICENSE")
_RUN = """#!/usr/bin/env bash
# Install the packages of this bundle and measure; needs Python 3.11, a GPU and its driver, and no network.
set -euo pipefail
cd "$(dirname "$0")"
if ! "${PYTHON:-python3}" -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2> /dev/null; then
    echo "gpu-check cannot run: no NVIDIA driver was found (libcuda.so.1)" >&2
    exit 1
fi
[ -x venv/bin/python ] || "${PYTHON:-python3}" -m venv venv
install="venv/bin/python -m pip install --quiet --no-index --no-deps --find-links wheels"
$install --require-hashes -r project/deploy/locks/build.txt
$install --require-hashes -r project/deploy/locks/gpu.txt
$install --no-build-isolation --editable project
if ls wheels/tensorrt_cu13_libs* > /dev/null 2>&1; then
    $install wheels/tensorrt_cu13*.whl
fi
export VULTUS_DATA_DIR="$PWD/data"
cd project
../venv/bin/python -m tests.bench.gpu_check --networks ../networks --out ../gpu-check.json "$@"
"""


def main() -> int:
    """Write the bundle."""
    parser = argparse.ArgumentParser(prog="make gpu-bundle")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-bundle"))
    parser.add_argument("--without-wheels", action="store_true", help="collect everything but the packages")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names of the networks, separated by commas")
    chosen = parser.parse_args()
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    for name in (name for name in chosen.networks.split(",") if name):
        _network(name, out / "networks" / name)
    _packs(out / "data" / "packs")
    _project(out / "project")
    (out / "run.sh").write_text(_RUN)
    (out / "run.sh").chmod(0o755)
    if not chosen.without_wheels:
        _wheels(out / "wheels")
    print(f"the bundle is {out}; copy it to a machine with a GPU, and start run.sh there")
    return 0


def _network(name: str, target: Path) -> None:
    """Export a network with drawn weights, unless it was exported before. Its proof may fail, as drawn weights do."""
    if (target / "embedder.onnx").exists():
        return
    print(f"exporting {name} with drawn weights, which takes up to half an hour")
    scratch = target.with_name(f".{name}")
    export(PLANS[name](), scratch, _PRECISIONS, insightface=False)
    (scratch / "artefact").rename(target)
    shutil.rmtree(scratch)


def _packs(target: Path) -> None:
    store = PackStore(load_settings().packs_dir)
    for name in ("opencv-zoo", "demo-photos"):
        source = store.verify(find_manifest(name))
        shutil.copytree(source, target / source.relative_to(store.path(find_manifest(name)).parent), dirs_exist_ok=True)


def _project(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name in _PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)


def _wheels(target: Path) -> None:
    """Download the packages. The index has no libraries of TensorRT, but a package that fetches them from NVIDIA's."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    download = [*pip, "download", "--no-deps", "--require-hashes", "--dest", str(target)]
    for lock in ("build.txt", "gpu.txt"):
        subprocess.run([*download, "--only-binary", ":all:", "-r", str(LOCKS / lock)], check=True)
    wheel = [*pip, "wheel", "--no-deps", "--require-hashes", "--wheel-dir", str(target)]
    done = subprocess.run([*wheel, "-r", str(LOCKS / "tensorrt.txt")], capture_output=True, check=False)
    if done.returncode:
        print("the libraries of TensorRT cannot be fetched from NVIDIA's index, so TensorRT will not be measured")


if __name__ == "__main__":
    sys.exit(main())
