"""`/v1/galleries/{gallery}/subjects`: the people of a gallery."""

from fastapi import APIRouter, Request

from service import errors
from service.api.backend import UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.intake.members import read_query
from service.api.openapi import json_body, query
from service.api.problems import documented_problems
from service.api.wire.cursors import cursor_of, name_behind
from service.api.wire.gallery_requests import MergeRequest, PageQuery, SubjectCreate, SubjectPatch
from service.api.wire.gallery_responses import ReceiptOut, SubjectDetails, SubjectOut, SubjectPage, TemplateOut
from service.errors import TemplateUnknown
from service.gallery.administration import (
    change_subject,
    create_subject,
    list_subjects,
    merge_subjects,
    read_subject,
)
from service.gallery.erasure import erase_subject, erase_template

router = APIRouter(prefix="/v1/galleries/{gallery}/subjects", tags=["galleries"])

_NOT_THERE = (errors.GalleryUnknown, errors.SubjectUnknown)
_DIGITS = 19  # of the largest key


@router.post(
    "",
    status_code=201,
    responses=documented_problems(
        *BODY_ERRORS, errors.GalleryUnknown, errors.NameInvalid, errors.SubjectExists, *STORE_ERRORS
    ),
    openapi_extra=json_body(SubjectCreate, {"subject": "ann", "metadata": {"badge": 7}}),
)
async def create(gallery: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Make a subject without templates; enrolling makes one as well."""
    body = await backend.read(request, SubjectCreate)
    made = await backend.call_gallery(create_subject, backend.galleries, gallery, body.subject, dict(body.metadata))
    return SubjectOut.of(made)


@router.get(
    "",
    responses=documented_problems(
        errors.GalleryUnknown, errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown
    ),
    openapi_extra=query(PageQuery),
)
async def list_all(gallery: str, request: Request, backend: UsesBackend) -> SubjectPage:
    """List subjects by name."""
    page = read_query(request, PageQuery)
    after = name_behind(page.cursor)
    found = await backend.call_gallery(list_subjects, backend.galleries, gallery, after, page.limit + 1)
    some = [SubjectOut.of(subject) for subject in found[: page.limit]]
    return SubjectPage(subjects=some, next=cursor_of(some[-1].subject) if len(found) > page.limit else None)


@router.get("/{subject}", responses=documented_problems(*_NOT_THERE))
async def describe(gallery: str, subject: str, backend: UsesBackend) -> SubjectDetails:
    """Describe a subject and its templates."""
    found, templates = await backend.call_gallery(read_subject, backend.galleries, gallery, subject)
    outline = SubjectOut.of(found)
    return SubjectDetails(
        subject=outline.subject,
        metadata=outline.metadata,
        created=outline.created,
        templates=[TemplateOut.of(template) for template in templates],
    )


@router.patch(
    "/{subject}",
    responses=documented_problems(*BODY_ERRORS, *_NOT_THERE, errors.NameInvalid, errors.SubjectExists, *STORE_ERRORS),
    openapi_extra=json_body(SubjectPatch, {"subject": "ann smith"}),
)
async def change(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Rename a subject, or change its metadata."""
    body = await backend.read(request, SubjectPatch)
    metadata = None if body.metadata is None else dict(body.metadata)
    changed = await backend.call_gallery(change_subject, backend.galleries, gallery, subject, body.subject, metadata)
    return SubjectOut.of(changed)


@router.post(
    "/{subject}/merge",
    responses=documented_problems(*BODY_ERRORS, *_NOT_THERE, errors.SubjectExists, *STORE_ERRORS),
    openapi_extra=json_body(MergeRequest, {"subject": "anne"}),
)
async def merge(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Give this subject all templates of another, which is no more afterwards."""
    body = await backend.read(request, MergeRequest)
    merged = await backend.call_gallery(merge_subjects, backend.galleries, gallery, subject, body.subject)
    return SubjectOut.of(merged)


@router.delete("/{subject}", responses=documented_problems(*_NOT_THERE, *STORE_ERRORS))
async def erase(gallery: str, subject: str, backend: UsesBackend) -> ReceiptOut:
    """Erase a subject: out of every answer at once, and out of the store, its log and snapshots."""
    return ReceiptOut.of(await backend.call_gallery(erase_subject, backend.galleries, gallery, subject))


@router.delete(
    "/{subject}/templates/{template}",
    responses=documented_problems(*_NOT_THERE, errors.TemplateUnknown, *STORE_ERRORS),
)
async def erase_one(gallery: str, subject: str, template: str, backend: UsesBackend) -> ReceiptOut:
    """Erase one template of a subject."""
    if not (template.isascii() and template.isdigit() and len(template) < _DIGITS):
        raise TemplateUnknown("templates have numbers; this is none")
    return ReceiptOut.of(await backend.call_gallery(erase_template, backend.galleries, gallery, subject, int(template)))
