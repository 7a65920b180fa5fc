"""`…/templates/{template}/crop`: the aligned crop of a template."""

from fastapi import APIRouter, Response

from service import errors
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.problems import documented_problems
from service.api.wire.cursors import key_of_template
from service.gallery.template_reading import read_crop

router = APIRouter(prefix="/v1/galleries/{gallery}/subjects/{subject}/templates/{template}", tags=["galleries"])

_PNG = "image/png"
_HEADERS = {"Cache-Control": "no-store"}  # a face must not outlive its erasure in a cache


@router.get(
    "/crop",
    name="show_crop",
    response_class=Response,
    dependencies=[needs("read")],
    responses={
        **documented_problems(errors.GalleryUnknown, errors.SubjectUnknown, errors.TemplateUnknown, errors.CropMissing),
        200: {
            "description": "The aligned crop, which no cache may keep.",
            "content": {_PNG: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def crop(gallery: str, subject: str, template: str, backend: UsesBackend) -> Response:
    """Return the aligned crop of a template, as the model saw it, from a gallery that keeps crops."""
    key = key_of_template(template)
    found = await backend.call_gallery(read_crop, backend.galleries, gallery, subject, key)
    return Response(found, media_type=_PNG, headers=_HEADERS)
