"""`/v1/galleries/{gallery}/subjects`: create, list, describe, change, merge and erase subjects."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.access import needs
from service.api.backend import Backend, UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.intake.members import read_query
from service.api.openapi import json_body, query
from service.api.problems import documented_problems
from service.api.wire.cursors import KEY_DIGITS, cursor_of, last_key, last_name
from service.api.wire.gallery_requests import MergeRequest, PageQuery, SubjectCreate, SubjectPatch, TemplatePageQuery
from service.api.wire.gallery_responses import ReceiptOut, SubjectDetails, SubjectOut, SubjectPage, TemplateOut
from service.api.written import written
from service.audit.records import Action, Event
from service.errors import TemplateUnknown
from service.gallery.administration import (
    change_subject,
    create_subject,
    list_subjects,
    merge_subjects,
    read_subject,
)
from service.gallery.erasure import erase_subject, erase_template
from service.gallery.pseudonyms import pseudonyms_of_names

router = APIRouter(prefix="/v1/galleries/{gallery}/subjects", tags=["galleries"])

_UNKNOWN = (errors.GalleryUnknown, errors.SubjectUnknown)


@router.post(
    "",
    status_code=201,
    dependencies=[needs("enrol")],
    responses=documented_problems(
        *BODY_ERRORS, errors.GalleryUnknown, errors.NameInvalid, errors.SubjectExists, *STORE_ERRORS
    ),
    openapi_extra=json_body(SubjectCreate, {"subject": "ann", "metadata": {"badge": 7}}),
)
async def create(gallery: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Create a subject without templates; an enrolment also creates its subject."""
    deadline = backend.deadline(request)
    body = await backend.read(request, SubjectCreate, deadline)
    created = await backend.change_for(
        request, deadline, create_subject, backend.galleries, gallery, body.subject, dict(body.metadata), body.expires
    )
    await _record(request, backend, "create_subject", gallery, await _pseudonyms(backend, gallery, created.name))
    return SubjectOut.of(created)


@router.get(
    "",
    response_model=SubjectPage,
    dependencies=[needs("read")],
    responses=documented_problems(
        errors.GalleryUnknown, errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown
    ),
    openapi_extra=query(PageQuery),
)
async def list_all(gallery: str, request: Request, backend: UsesBackend) -> Response:
    """List the subjects of a gallery, ordered by name."""
    page = read_query(request, PageQuery)
    after = last_name(page.cursor)

    def work() -> Response:
        found = list_subjects(backend.galleries, gallery, after, page.limit + 1)
        entries = [SubjectOut.of(subject) for subject in found[: page.limit]]
        following = cursor_of(entries[-1].subject) if len(found) > page.limit else None
        return written(SubjectPage(subjects=entries, next=following))

    return await backend.call_gallery(work)


@router.get(
    "/{subject}",
    response_model=SubjectDetails,
    dependencies=[needs("read")],
    responses=documented_problems(*_UNKNOWN, errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown),
    openapi_extra=query(TemplatePageQuery),
)
async def describe(gallery: str, subject: str, request: Request, backend: UsesBackend) -> Response:
    """Describe a subject and its templates, which are oldest first."""
    page = read_query(request, TemplatePageQuery)
    after = last_key(page.cursor)

    def work() -> Response:
        found, templates = read_subject(backend.galleries, gallery, subject, after, page.limit + 1)
        entries = [TemplateOut.of(template) for template in templates[: page.limit]]
        following = cursor_of(str(entries[-1].template)) if len(templates) > page.limit else None
        outline = SubjectOut.of(found).model_dump()
        return written(SubjectDetails(**outline, templates=entries, next=following))

    return await backend.call_gallery(work)


@router.patch(
    "/{subject}",
    dependencies=[needs("enrol")],
    responses=documented_problems(*BODY_ERRORS, *_UNKNOWN, errors.NameInvalid, errors.SubjectExists, *STORE_ERRORS),
    openapi_extra=json_body(SubjectPatch, {"subject": "ann smith"}),
)
async def change(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Rename a subject, or change its metadata."""
    deadline = backend.deadline(request)
    body = await backend.read(request, SubjectPatch, deadline)
    metadata = None if body.metadata is None else dict(body.metadata)
    changed = await backend.change_for(
        request, deadline, change_subject, backend.galleries, gallery, subject, body.subject, metadata, body.expires
    )
    await _record(request, backend, "change_subject", gallery, await _pseudonyms(backend, gallery, changed.name))
    return SubjectOut.of(changed)


@router.post(
    "/{subject}/merge",
    dependencies=[needs("enrol")],
    responses=documented_problems(*BODY_ERRORS, *_UNKNOWN, errors.SubjectExists, errors.SubjectFull, *STORE_ERRORS),
    openapi_extra=json_body(MergeRequest, {"subject": "anne"}),
)
async def merge(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Move all templates of another subject to this subject, and remove the other subject."""
    deadline = backend.deadline(request)
    body = await backend.read(request, MergeRequest, deadline)
    subjects = await _pseudonyms(backend, gallery, subject, body.subject)  # of one of them, it ends with the merge
    merged = await backend.change_for(
        request, deadline, merge_subjects, backend.galleries, gallery, subject, body.subject
    )
    await _record(request, backend, "merge_subjects", gallery, subjects)
    return SubjectOut.of(merged)


@router.delete("/{subject}", dependencies=[needs("erase")], responses=documented_problems(*_UNKNOWN, *STORE_ERRORS))
async def erase(gallery: str, subject: str, request: Request, backend: UsesBackend) -> ReceiptOut:
    """Erase a subject with all its templates.

    When the response arrives, no search finds the subject, its rows are overwritten, and a snapshot that contained it
    is removed. `log_cut` says whether the write-ahead log is already truncated.
    """
    deadline = backend.deadline(request)
    subjects = await _pseudonyms(backend, gallery, subject)  # afterwards, it has none
    receipt = await backend.change_for(request, deadline, erase_subject, backend.galleries, gallery, subject)
    await _record(request, backend, "erase_subject", gallery, subjects, receipt.template_count)
    return ReceiptOut.of(receipt)


@router.delete(
    "/{subject}/templates/{template}",
    dependencies=[needs("erase")],
    responses=documented_problems(*_UNKNOWN, errors.TemplateUnknown, *STORE_ERRORS),
)
async def erase_one(gallery: str, subject: str, template: str, request: Request, backend: UsesBackend) -> ReceiptOut:
    """Erase one template of a subject."""
    if not (template.isascii() and template.isdigit() and len(template) <= KEY_DIGITS):
        raise TemplateUnknown("the template must be given by its number")
    deadline = backend.deadline(request)
    receipt = await backend.change_for(
        request, deadline, erase_template, backend.galleries, gallery, subject, int(template)
    )
    subjects = await _pseudonyms(backend, gallery, subject)
    await _record(request, backend, "erase_template", gallery, subjects, receipt.template_count)
    return ReceiptOut.of(receipt)


async def _pseudonyms(backend: Backend, gallery: str, *subjects: str) -> list[str]:
    return await backend.call_gallery(pseudonyms_of_names, backend.galleries, gallery, subjects)


async def _record(
    request: Request,
    backend: Backend,
    action: Action,
    gallery: str,
    subjects: Sequence[str],
    count: int | None = None,
) -> None:
    await backend.auditor.record(request, [Event(action, [gallery], subjects, count=count)])
