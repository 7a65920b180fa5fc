"""The application: wiring and nothing else."""

import anyio
from fastapi import FastAPI

from models.assembly import Models
from service.api import detect, info, verify
from service.api.dependencies import Backend
from service.api.problems import install_problem_handlers
from service.request_id import RequestIdMiddleware
from service.settings import Settings
from service.version import VERSION


def create_app(models: Models, settings: Settings) -> FastAPI:
    """Make the application around models that are loaded and warm."""
    app = FastAPI(
        title="Vultus",
        version=VERSION,
        summary="Self-hosted face verification: every decision with its measured error rate.",
        docs_url=None,  # these pages would load their scripts from somebody else's server
        redoc_url=None,
    )
    app.state.backend = Backend(
        models, settings, anyio.CapacityLimiter(settings.request.concurrency), anyio.CapacityLimiter(1)
    )
    app.add_middleware(RequestIdMiddleware)
    install_problem_handlers(app)
    for router in (detect.router, verify.router, info.router):
        app.include_router(router)
    return app
