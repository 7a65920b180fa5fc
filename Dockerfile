# docker build --target cpu --tag vultus .
# tests/deploy/test_image.py runs the steps between the comments `install` and `end`, then CMD, in a fresh environment.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/locks deploy/locks
# install
RUN python -m venv /opt/vultus
RUN /opt/vultus/bin/python -m pip install --no-deps --require-hashes -r deploy/locks/build.txt
RUN /opt/vultus/bin/python -m pip install --no-deps --require-hashes -r deploy/locks/cpu.txt
# end
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY service service
ENV VULTUS_DATA_DIR=/var/lib/vultus
# install
RUN /opt/vultus/bin/python -m pip install --no-deps --no-build-isolation .
RUN /opt/vultus/bin/vultus packs fetch opencv-zoo
# end

FROM python:3.11-slim-bookworm AS cpu
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin vultus
COPY --from=build /opt/vultus /opt/vultus
COPY --from=build --chown=vultus:vultus /var/lib/vultus /var/lib/vultus
RUN install --directory --owner vultus --mode 700 /var/lib/vultus/galleries /var/lib/vultus/security \
    /var/lib/vultus/encryption /var/lib/vultus/master
VOLUME ["/var/lib/vultus/galleries", "/var/lib/vultus/security", "/var/lib/vultus/encryption", "/var/lib/vultus/master"]
ENV PATH=/opt/vultus/bin:$PATH VULTUS_DATA_DIR=/var/lib/vultus PYTHONUNBUFFERED=1
USER vultus
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# start
CMD ["vultus", "serve", "--host", "0.0.0.0", "--port", "8000"]
