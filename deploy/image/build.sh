#!/usr/bin/env bash
# Build the image vultus:TARGET with docker, podman or buildah, whichever works: usage `build.sh [cpu|gpu] [OPTION...]`.
# The options go to the build, such as --platform linux/arm64 or --build-arg BASE=….
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:-cpu}
shift || true

# Docker answers `version` only with a running daemon; images of other formats would lose the health check.
for engine in "docker build" "podman build --format docker" "buildah build --format docker"; do
    if ${engine%% *} version >/dev/null 2>&1; then
        echo "building vultus:$target with ${engine%% *}"
        exec $engine --target "$target" --tag "vultus:$target" "$@" .
    fi
done
echo "no image was built: none of docker, podman and buildah works here" >&2
exit 1
