"""The gallery of a recognition service, which is made at its first request, as CompreFace makes it with the service."""

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request

from service.api.access import grant_of
from service.api.backend import Backend, UsesBackend
from service.audit.records import Actor, Event
from service.errors import GalleryExists, GalleryUnknown
from service.gallery.administration import create_gallery, read_gallery


async def _gallery(request: Request, backend: UsesBackend) -> str:
    """Return the name of the gallery of a key."""
    galleries = grant_of(request).galleries
    assert galleries is not None  # `KeyRequest.checked`
    name = galleries[0]
    if not await backend.call_gallery(_exists, backend, name):
        await backend.auditor.require_writable()
        await backend.change(backend.deadline(request), _create, backend, name, backend.auditor.actor(request))
    return name


UsesGallery = Annotated[str, Depends(_gallery)]


def _create(backend: Backend, name: str, actor: Actor) -> None:
    with suppress(GalleryExists):  # another request was faster
        create_gallery(backend.galleries, name)
        backend.auditor.write([Event("create_gallery", [name])], actor)


def _exists(backend: Backend, name: str) -> bool:
    try:
        read_gallery(backend.galleries, name)
    except GalleryUnknown:
        return False
    return True
