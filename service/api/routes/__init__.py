"""One router for each resource. A route parses a request, calls an operation and writes the response.

A new route belongs in the module of its resource. A new resource is a module here and a line in `ROUTERS`.
"""

from service.api.routes import (
    access,
    audit,
    backup,
    calibration,
    console,
    crops,
    detect,
    docs,
    enrol,
    exchange,
    galleries,
    health,
    identify,
    info,
    keys,
    metrics,
    parity,
    reports,
    subjects,
    verify,
)

ROUTERS = (
    detect.router,
    verify.router,
    identify.router,
    galleries.router,
    subjects.router,
    crops.router,
    enrol.router,
    exchange.router,
    backup.router,
    audit.router,
    info.router,
    access.router,
    calibration.router,
    parity.router,
    reports.router,
    health.router,
    docs.router,
    metrics.router,
)

CONSOLE_ROUTER = console.router
"""The routes of the page for people, which a setting switches off."""

KEY_ROUTER = keys.router
"""The routes of keys, for a service that has keys."""
