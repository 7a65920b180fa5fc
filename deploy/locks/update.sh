#!/usr/bin/env bash
# Pin every package, with hashes and without addresses. Needs uv: `pip install uv`, then `make lock`.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() { # lock NAME [extra packages on stdin] -- options
    local name=$1
    shift
    uv pip compile pyproject.toml - "$@" --upgrade --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --quiet --output-file "deploy/locks/$name.txt"
}

lock cpu --extra cpu --extra heic </dev/null
lock gpu --extra gpu --extra heic </dev/null
printf "%s\n" "editables>=0.5" "hatchling>=1.27" "pip>=25.0" | uv pip compile - --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --quiet --output-file deploy/locks/build.txt
echo "insightface==2.1" | lock dev --extra cpu --extra heic --extra insightface --extra dev \
    --constraints deploy/locks/cpu.txt --constraints deploy/locks/build.txt
