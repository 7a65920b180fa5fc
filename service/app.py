"""The application factory, which only wires components together."""

import threading
import weakref
from dataclasses import replace
from functools import partial

import anyio
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from models.serving.models import Models
from service.api.access import AccessMiddleware, AccessScheme
from service.api.admission import Admission, BodyBudget
from service.api.auditing import Auditor
from service.api.backend import Backend
from service.api.expectation import ExpectationMiddleware
from service.api.head_requests import HeadMiddleware
from service.api.key_headers import KeyHeaders
from service.api.observation import ObservationMiddleware, Observer, count_answer, log_answer
from service.api.problems import install_problem_handlers
from service.api.request_id import HEADER, RequestIdMiddleware
from service.api.routes import CONSOLE_ROUTER, KEY_ROUTER, ROUTERS
from service.api.service_state import ServiceState
from service.api.trusted_origins import TrustedOriginsMiddleware
from service.audit.log import AuditLog
from service.compat.compreface.access import ServiceKeys
from service.compat.compreface.routes import ROUTERS as COMPREFACE_ROUTERS
from service.compat.rekognition.access import SignedRequests
from service.compat.rekognition.repetitions import Repetitions
from service.compat.rekognition.routes import ROUTERS as REKOGNITION_ROUTERS
from service.gallery.galleries import Galleries
from service.metrics.instruments import Metrics
from service.operations.reference_cache import ReferenceCache
from service.security.guard import Guard
from service.security.keys.store import KeyStore
from service.settings import Settings
from service.tracing.tracer import Tracer
from service.version import VERSION

_GALLERY_WORKERS = 8  # requests that read galleries at the same time
_STORE_WORKERS = 4  # requests that change galleries at the same time; the store has one writer
_UPKEEP_WORKERS = 2  # checks of galleries at the same time
_PROBE_WORKERS = 1


def switch_models(app: FastAPI, models: Models) -> None:
    """Answer from the next request on with other models of the same embedding contract.

    Earlier requests, such as streams, end on the earlier models, which are closed when the last of them has ended.
    """
    earlier: Backend = app.state.backend
    earlier.metrics.expect_similarities(models.calibration)
    app.state.backend = replace(earlier, models=models)
    closing = threading.Thread(target=earlier.models.close, name="close-models")
    weakref.finalize(earlier, closing.start).atexit = False


def _operation_id(route: APIRoute) -> str:
    """Return the name of a route, which generated clients use for their methods."""
    return route.name


def create_app(
    models: Models,
    galleries: Galleries,
    settings: Settings,
    guard: Guard | None = None,
    keys: KeyStore | None = None,
    audit: AuditLog | None = None,
    metrics: Metrics | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """Create the application.

    Args:
        models: Models that are warmed up.
        galleries: Open galleries.
        settings: The settings.
        guard: Admits requests by their keys; None for an application that is open to everybody.
        keys: Store of the keys; None for an application without the routes of keys.
        audit: Log of what requests did; None to record nothing.
        metrics: Counts what requests did; None for new ones.
        tracer: Traces requests; None for no traces.
    """
    guard = guard or Guard(None, open_to="everybody")
    metrics = metrics or Metrics()
    bodies = BodyBudget(settings.request.buffered_bytes, settings.request.streams_bytes)
    admission = Admission(settings.request.places, settings.request.overload_places)
    app = FastAPI(
        title="Vultus",
        version=VERSION,
        summary="Self-hosted face verification: every decision with its measured error rate.",
        docs_url=None,  # these pages would load scripts from another server; see `routes.docs`
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # it would name paths
        redirect_slashes=False,  # the redirection would lead to whatever host the request names
    )
    app.state.backend = Backend(
        models=models,
        settings=settings,
        galleries=galleries,
        references=ReferenceCache(settings.cache.references, settings.cache.lifetime_s),
        guard=guard,
        auditor=Auditor(audit, metrics),
        metrics=metrics,
        draining=threading.Event(),
        admission=admission,
        bodies=bodies,
        inference_workers=anyio.CapacityLimiter(settings.request.workers),
        stream_workers=anyio.CapacityLimiter(max(1, settings.request.workers // 2)),
        gallery_workers=anyio.CapacityLimiter(_GALLERY_WORKERS),
        store_workers=anyio.CapacityLimiter(_STORE_WORKERS),
        upkeep_workers=anyio.CapacityLimiter(_UPKEEP_WORKERS),
        probe_workers=anyio.CapacityLimiter(_PROBE_WORKERS),
    )
    metrics.expect_similarities(models.calibration)
    app.add_middleware(HeadMiddleware)
    schemes: list[AccessScheme] = [KeyHeaders(guard)]
    routers = [*ROUTERS, *([CONSOLE_ROUTER] if settings.http.console else [])]
    if settings.compat.compreface:
        schemes.insert(0, ServiceKeys(guard))
        routers += COMPREFACE_ROUTERS
    if settings.compat.rekognition:
        schemes.insert(0, SignedRequests(guard, bodies, settings.request))
        routers += REKOGNITION_ROUTERS
        app.state.repetitions = Repetitions()
    app.add_middleware(AccessMiddleware, schemes=schemes)
    app.add_middleware(ExpectationMiddleware)
    if settings.http.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.http.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[HEADER, "Retry-After", "Server-Timing"],
        )
    app.add_middleware(
        TrustedOriginsMiddleware,
        hosts=settings.http.trusted_hosts,
        origins=settings.http.cors_origins,
        needs_key=[scheme.is_for for scheme in schemes[:-1]],
    )
    observers: list[Observer] = [partial(count_answer, metrics), log_answer]
    app.add_middleware(ObservationMiddleware, observers=observers, tracer=tracer)
    app.add_middleware(RequestIdMiddleware)
    metrics.registry.register(
        ServiceState(lambda: app.state.backend.models, galleries, admission, settings.request.workers, audit)
    )
    install_problem_handlers(app)
    for router in routers:
        app.include_router(router)
    if keys is not None:
        app.state.keys = keys
        app.include_router(KEY_ROUTER)
    return app
