"""`/v1/galleries/{gallery}/subjects`: create, list, describe, change, merge and erase subjects."""

from fastapi import APIRouter, Request, Response

from models.deadline import Deadline
from service import errors
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.documented_errors import BODY_ERRORS, STORE_ERRORS
from service.api.intake.members import read_query
from service.api.openapi import json_body, query
from service.api.problems import documented_problems
from service.api.wire.cursors import cursor_of, key_of_template, last_key, last_name
from service.api.wire.gallery_requests import (
    MergeRequest,
    SubjectCreate,
    SubjectPageQuery,
    SubjectPatch,
    TemplatePageQuery,
)
from service.api.wire.gallery_responses import ReceiptOut, SubjectDetails, SubjectOut, SubjectPage, TemplateOut
from service.api.written import written
from service.audit.records import Event
from service.gallery.administration import (
    change_subject,
    create_subject,
    list_subjects,
    merge_subjects,
    read_subject,
    search_subjects,
)
from service.gallery.erasure import erase_subject, erase_template
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of, pseudonyms_of_names
from service.gallery.records import Receipt, Subject

router = APIRouter(prefix="/v1/galleries/{gallery}/subjects", tags=["galleries"])

_UNKNOWN = (errors.GalleryUnknown, errors.SubjectUnknown)


@router.post(
    "",
    name="create_subject",
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

    def work(deadline: Deadline) -> tuple[Subject, Event]:
        attributes = (body.subject, dict(body.metadata), body.expires)
        created = create_subject(backend.galleries, gallery, *attributes, deadline)
        return created, Event("create_subject", [gallery], _pseudonym(backend.galleries, created))

    return SubjectOut.of(await backend.change_for(request, deadline, work))


@router.get(
    "",
    name="list_subjects",
    response_model=SubjectPage,
    dependencies=[needs("read")],
    responses=documented_problems(
        errors.GalleryUnknown, errors.CursorInvalid, errors.MemberInvalid, errors.MemberUnknown
    ),
    openapi_extra=query(SubjectPageQuery),
)
async def list_all(gallery: str, request: Request, backend: UsesBackend) -> Response:
    """List the subjects of a gallery, or those whose names contain a text, ordered by name."""
    page = read_query(request, SubjectPageQuery)
    after = last_name(page.cursor)

    def search(text: str) -> Response:
        found = search_subjects(backend.galleries, gallery, text, after, page.limit)
        following = None if found.last is None else cursor_of(found.last)
        return written(SubjectPage(subjects=[SubjectOut.of(subject) for subject in found.subjects], next=following))

    def work() -> Response:
        if page.name is not None:
            return search(page.name)
        found = list_subjects(backend.galleries, gallery, after, page.limit + 1)
        entries = [SubjectOut.of(subject) for subject in found[: page.limit]]
        following = cursor_of(entries[-1].subject) if len(found) > page.limit else None
        return written(SubjectPage(subjects=entries, next=following))

    return await backend.call_gallery(work)


@router.get(
    "/{subject}",
    name="describe_subject",
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
    name="change_subject",
    dependencies=[needs("enrol")],
    responses=documented_problems(*BODY_ERRORS, *_UNKNOWN, errors.NameInvalid, errors.SubjectExists, *STORE_ERRORS),
    openapi_extra=json_body(SubjectPatch, {"subject": "ann smith"}),
)
async def change(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Rename a subject, or change its metadata."""
    deadline = backend.deadline(request)
    body = await backend.read(request, SubjectPatch, deadline)
    metadata = None if body.metadata is None else dict(body.metadata)

    def work(deadline: Deadline) -> tuple[Subject, Event]:
        attributes = (body.subject, metadata, body.expires)
        changed = change_subject(backend.galleries, gallery, subject, *attributes, deadline)
        return changed, Event("change_subject", [gallery], _pseudonym(backend.galleries, changed))

    return SubjectOut.of(await backend.change_for(request, deadline, work))


@router.post(
    "/{subject}/merge",
    name="merge_subjects",
    dependencies=[needs("enrol")],
    responses=documented_problems(*BODY_ERRORS, *_UNKNOWN, errors.SubjectExists, errors.SubjectFull, *STORE_ERRORS),
    openapi_extra=json_body(MergeRequest, {"subject": "anne"}),
)
async def merge(gallery: str, subject: str, request: Request, backend: UsesBackend) -> SubjectOut:
    """Move all templates of another subject to this subject, and remove the other subject."""
    deadline = backend.deadline(request)
    body = await backend.read(request, MergeRequest, deadline)

    def work(deadline: Deadline) -> tuple[Subject, Event]:
        with backend.galleries.database.exclusive(deadline):  # the pseudonym of the other one ends with the merge
            other = pseudonyms_of_names(backend.galleries, gallery, [body.subject])
            merged = merge_subjects(backend.galleries, gallery, subject, body.subject)
        return merged, Event("merge_subjects", [gallery], [*_pseudonym(backend.galleries, merged), *other])

    return SubjectOut.of(await backend.change_for(request, deadline, work))


@router.delete(
    "/{subject}",
    name="erase_subject",
    dependencies=[needs("erase")],
    responses=documented_problems(*_UNKNOWN, *STORE_ERRORS),
)
async def erase(gallery: str, subject: str, request: Request, backend: UsesBackend) -> ReceiptOut:
    """Erase a subject with all its templates.

    When the response arrives, no search finds the subject, its rows are overwritten, and a snapshot that contained it
    is removed. `log_cut` says whether the write-ahead log is already truncated.
    """
    deadline = backend.deadline(request)

    def work(deadline: Deadline) -> tuple[Receipt, Event]:
        with backend.galleries.database.exclusive(deadline):  # afterwards, the subject has no pseudonym
            subjects = pseudonyms_of_names(backend.galleries, gallery, [subject])
            receipt = erase_subject(backend.galleries, gallery, subject)
        return receipt, Event("erase_subject", [gallery], subjects, count=receipt.template_count)

    return ReceiptOut.of(await backend.change_for(request, deadline, work))


@router.delete(
    "/{subject}/templates/{template}",
    name="erase_template",
    dependencies=[needs("erase")],
    responses=documented_problems(*_UNKNOWN, errors.TemplateUnknown, *STORE_ERRORS),
)
async def erase_one(gallery: str, subject: str, template: str, request: Request, backend: UsesBackend) -> ReceiptOut:
    """Erase one template of a subject."""
    key = key_of_template(template)
    deadline = backend.deadline(request)

    def work(deadline: Deadline) -> tuple[Receipt, Event]:
        with backend.galleries.database.exclusive(deadline):
            subjects = pseudonyms_of_names(backend.galleries, gallery, [subject])
            receipt = erase_template(backend.galleries, gallery, subject, key)
        return receipt, Event("erase_template", [gallery], subjects, count=receipt.template_count)

    return ReceiptOut.of(await backend.change_for(request, deadline, work))


def _pseudonym(galleries: Galleries, subject: Subject) -> list[str]:
    """Return the pseudonym of a subject, unless it was erased meanwhile."""
    return list(pseudonyms_of(galleries, [subject.key]).values())
