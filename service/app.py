"""The application: wiring and nothing else."""

import anyio
from fastapi import FastAPI

from models.assembly import Models
from service.admission import Admission, BodyBudget
from service.api import detect, enrol, exchange, galleries, identify, info, subjects, verify
from service.api.dependencies import Backend
from service.api.problems import install_problem_handlers
from service.gallery.galleries import Galleries
from service.reference_cache import ReferenceCache
from service.request_id import RequestIdMiddleware
from service.settings import Settings
from service.version import VERSION

_CLERKS = 8  # requests that read or change galleries at the same time


def create_app(models: Models, kept: Galleries, settings: Settings) -> FastAPI:
    """Make the application around models that are loaded and warm, and galleries that are open."""
    app = FastAPI(
        title="Vultus",
        version=VERSION,
        summary="Self-hosted face verification: every decision with its measured error rate.",
        docs_url=None,  # these pages would load their scripts from somebody else's server
        redoc_url=None,
    )
    app.state.backend = Backend(
        models,
        settings,
        kept,
        ReferenceCache(settings.cache.references, settings.cache.lifetime_s),
        Admission(settings.request.places, settings.request.pressed_places),
        BodyBudget(settings.request.buffered_bytes),
        anyio.CapacityLimiter(settings.request.turns),
        anyio.CapacityLimiter(_CLERKS),
        anyio.CapacityLimiter(1),
    )
    app.add_middleware(RequestIdMiddleware)
    install_problem_handlers(app)
    for room in (detect, verify, identify, galleries, subjects, enrol, exchange, info):
        app.include_router(room.router)
    return app
