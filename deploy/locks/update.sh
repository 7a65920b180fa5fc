#!/usr/bin/env bash
# Pin every package, with hashes and without addresses. Needs uv: `pip install uv`, then `make lock`. The versions in the
# locks are kept, so nothing changes unless requirements did; `make lock UPGRADE=--upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() { # lock NAME ARGUMENTS..., with requirements on standard input as `-`
    local name=$1
    shift
    uv pip compile "$@" ${UPGRADE:-} --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --quiet --output-file "deploy/locks/$name.txt"
}

lock cpu pyproject.toml --extra cpu --extra heic --extra tracing
# What serves needs none of this; it is beside cpu.txt or gpu.txt.
printf '%s\n' "jinja2>=3.1" "matplotlib>=3.10" "scipy>=1.15" | lock evaluate - --constraints deploy/locks/cpu.txt
# The CPU and CUDA builds of torch have the same version number. The lock lists the requirements of the CPU build, and
# the Makefile installs torch.
printf '%s\n' "onnxscript>=0.7" "pyyaml>=6.0" "safetensors>=0.6" filelock fsspec jinja2 networkx "setuptools>=77" sympy |
    lock export - --constraints deploy/locks/cpu.txt
lock gpu pyproject.toml --extra gpu --extra heic --extra tracing
echo "pip>=25.0" | lock pip -
printf '%s\n' "editables>=0.5" "hatchling>=1.27" "pip>=25.0" | lock build - --constraints deploy/locks/pip.txt
echo "insightface==2.1" | lock dev pyproject.toml - --extra cpu --extra heic --extra hub --extra tracing --extra evaluate --extra insightface --extra dev \
    --constraints deploy/locks/cpu.txt \
    --constraints deploy/locks/build.txt --constraints deploy/locks/export.txt --constraints deploy/locks/evaluate.txt
# The tests run it in an environment of its own. Its requests-toolbelt imports a module that urllib3 2 no longer has.
printf '%s\n' "compreface-sdk==0.6.0" "urllib3<2" | lock clients/compreface -
