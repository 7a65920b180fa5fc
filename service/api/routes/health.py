"""`GET /livez`, `/readyz`, `/startupz`: whether the process should be restarted, or gets requests.

The names are those of Kubernetes; `/healthz` is an earlier one for a process that answers.
"""

import shutil

import numpy as np
from fastapi import APIRouter

from models.deadline import Deadline
from models.errors import DeadlineExceeded, EngineStopped, InferenceFailed, VultusError
from models.pipeline import Pipeline
from models.synthetic import synthetic_pictures
from service.api.backend import PROBE_S, Backend, UsesBackend
from service.api.problems import documented_problems
from service.api.wire.responses import Health
from service.errors import NotReady

router = APIRouter(tags=["operation"])

_UNIT_TOLERANCE = 1e-2  # bf16 arithmetic normalises to within a few thousandths


@router.get("/healthz")
async def healthz() -> Health:
    """Report that the process answers."""
    return Health(status="alive")


@router.get("/livez", responses=documented_problems(NotReady, needs_key=False))
async def livez(backend: UsesBackend) -> Health:
    """Report whether the process works, or only a restart helps: a worker of an engine has ended."""
    try:
        backend.models.require_alive()
    except EngineStopped as error:
        raise NotReady(f"the service must be restarted: {error}") from error
    return Health(status="alive")


@router.get("/startupz", responses=documented_problems(NotReady, needs_key=False))
async def startupz(backend: UsesBackend) -> Health:
    """Report whether the service has started: its models are loaded, and inference works."""
    return await _ready(backend)


@router.get("/readyz", responses=documented_problems(NotReady, needs_key=False))
async def readyz(backend: UsesBackend) -> Health:
    """Report whether the service should get requests.

    Each call runs the detector and the recognizer on a synthetic picture and checks their outputs, reads the store of
    the galleries, with a data key if it is encrypted, and looks at the free space of its disk. Under a load that
    leaves no time for inference within five seconds, the service is ready as long as the engines end runs. A service
    that was told to stop is not ready.
    """
    if backend.draining.is_set():
        raise NotReady("the service was told to stop")
    await _require_storage(backend)
    return await _ready(backend)


async def _ready(backend: Backend) -> Health:
    """Return that inference works.

    Raises:
        NotReady: It does not work, or does not answer and ends no run.
    """
    models = backend.models
    earlier = models.progress()
    try:
        models.require_alive()
        await backend.probe(_try_inference, models.pipeline)
    except (NotReady, DeadlineExceeded) as error:
        if not models.moved_since(earlier):
            raise NotReady(f"inference did not answer within {PROBE_S:g} s, and no run ended meanwhile") from error
    except (InferenceFailed, EngineStopped) as error:
        raise NotReady(f"inference does not work: {error}") from error
    return Health(status="ready")


async def _require_storage(backend: Backend) -> None:
    """Raise an error unless galleries can be read, acts be recorded and something be stored.

    Raises:
        NotReady: The store or a data key cannot be read, the audit log is stopped, or the disk is nearly full.
    """
    galleries, least = backend.galleries, backend.settings.gallery.min_free_bytes
    try:
        await backend.probe(galleries.require_readable, what="the store of the galleries")
    except NotReady:
        raise
    except VultusError as error:
        raise NotReady(f"the galleries cannot be read: {error}") from error
    if backend.auditor.is_stopped:
        raise NotReady("the audit log cannot be written")
    free = shutil.disk_usage(galleries.directory).free
    if free < least:
        raise NotReady(f"the disk of the galleries has {free // 2**20} MiB left; {least // 2**20} are required")


def _try_inference(pipeline: Pipeline) -> None:
    template = pipeline.embedder.template
    (picture,) = synthetic_pictures(1, template.height, template.width)
    deadline = Deadline(PROBE_S)
    pipeline.detector.detect(picture, deadline)
    embedding, _ = pipeline.embedder.embed(picture[None], deadline)
    if abs(float(np.linalg.norm(embedding)) - 1) > _UNIT_TOLERANCE:
        raise InferenceFailed("the recognizer returned an embedding whose length is not 1")
