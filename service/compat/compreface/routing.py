"""Routes that answer errors in CompreFace's form."""

from fastapi import APIRouter

from service.compat.compreface.access import PREFIX
from service.compat.compreface.errors import error_response, internal_error_response
from service.compat.routes import CompatRoute


class CompreFaceRoute(CompatRoute):
    """A route of CompreFace's API."""

    refusal = staticmethod(error_response)
    fault = staticmethod(internal_error_response)


def compreface_router(path: str) -> APIRouter:
    """Return a router for the paths of a service, which the document of the own API does not describe."""
    return APIRouter(prefix=f"{PREFIX}/{path}", route_class=CompreFaceRoute, include_in_schema=False)
