# make image; or: docker build --target cpu --tag vultus:cpu .
# Targets: cpu, gpu. Pin the base by its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:…
# tests/deploy/test_image.py runs the steps between the comments `install` and `end`, then CMD, in a fresh environment;
# `make test-image` runs the image.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/locks deploy/locks
# install
RUN python -m venv /opt/build
RUN /opt/build/bin/python -m pip install --no-deps --require-hashes -r deploy/locks/build.txt
# end

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY service service
# install
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel .
# end

FROM build AS build-cpu
COPY deploy/image deploy/image
# install
RUN python -m venv --without-pip /opt/vultus
RUN /opt/build/bin/python -m pip --python /opt/vultus/bin/python install --no-deps --require-hashes -r deploy/locks/cpu.txt
RUN sh deploy/image/remove_unused.sh /opt/vultus
# pip fetches packs; the tools that build the wheel stay outside.
RUN /opt/build/bin/python -m pip --python /opt/vultus/bin/python install --no-deps --require-hashes -r deploy/locks/pip.txt
# end
COPY --from=wheel /opt/wheel /opt/wheel
ENV VULTUS_DATA_DIR=/var/lib/vultus
# The machine that builds is not the one that serves, so nothing is measured here.
# install
RUN /opt/build/bin/python -m pip --python /opt/vultus/bin/python install --no-deps --no-index --find-links /opt/wheel vultus
RUN env VULTUS_RUNTIME__MEASURE=false /opt/vultus/bin/vultus packs fetch opencv-zoo
# end

FROM build AS build-gpu
RUN python -m venv --without-pip /opt/vultus
RUN /opt/build/bin/python -m pip --python /opt/vultus/bin/python install --no-deps --require-hashes -r deploy/locks/gpu.txt
COPY --from=wheel /opt/wheel /opt/wheel
RUN /opt/build/bin/python -m pip --python /opt/vultus/bin/python install --no-deps --no-index --find-links /opt/wheel vultus

FROM ${BASE} AS runtime
RUN groupadd --system --gid 10001 vultus && \
    useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin vultus
COPY --from=build-cpu --chown=vultus:vultus /var/lib/vultus /var/lib/vultus
RUN install --directory --owner vultus --group vultus --mode 700 /var/lib/vultus/galleries /var/lib/vultus/security \
    /var/lib/vultus/encryption /var/lib/vultus/master /var/lib/vultus/tunings /var/lib/vultus/comparisons
VOLUME ["/var/lib/vultus/galleries", "/var/lib/vultus/security", "/var/lib/vultus/encryption", "/var/lib/vultus/master", \
    "/var/lib/vultus/tunings"]
ENV PATH=/opt/vultus/bin:$PATH VULTUS_DATA_DIR=/var/lib/vultus PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=12s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=11)"]
# start
CMD ["vultus", "serve", "--host", "0.0.0.0", "--port", "8000"]

# Never run: no GPU was at hand.
FROM runtime AS gpu
COPY --from=build-gpu /opt/vultus /opt/vultus

FROM runtime AS cpu
COPY --from=build-cpu /opt/vultus /opt/vultus
