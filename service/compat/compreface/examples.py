"""`/api/v1/recognition/faces`: the examples of subjects, each of which is a template."""

from dataclasses import dataclass
from functools import partial

from fastapi import Request, Response

from models.deadline import Deadline
from models.errors import VultusError
from service.api.backend import Backend, UsesBackend
from service.api.intake.body import ReceivedRequest
from service.api.intake.member_errors import at
from service.audit.events import enrolment_event
from service.audit.records import Event
from service.compat.compreface.erasing import erase_all, erase_named
from service.compat.compreface.gallery import UsesGallery
from service.compat.compreface.intake import (
    ExamplesQuery,
    FaceOptions,
    read_options,
    read_photos,
    validate_options,
)
from service.compat.compreface.routing import compreface_router
from service.compat.compreface.subjects import stored_name
from service.compat.compreface.wire import json_answer, page_members
from service.compat.face_ids import face_id, find_faces
from service.errors import (
    CropMissing,
    DuplicateOfAnother,
    MemberInvalid,
    MemberMissing,
    SubjectUnknown,
    TemplateUnknown,
)
from service.gallery.administration import find_subject_ignoring_case
from service.gallery.erasure import erase_templates
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of
from service.gallery.records import OwnedTemplate
from service.gallery.template_reading import crop_of_template, list_templates
from service.operations.acquire import Requirements, image_source
from service.operations.enrol import Entry, Prepared, prepare, store
from service.strict_json import parse_list

router = compreface_router("recognition/faces")

_MAX_IDS = 10_000


def example_of(galleries: Galleries, gallery: str, image_id: str) -> OwnedTemplate:
    """Return an example by its id.

    Raises:
        GalleryUnknown: No gallery has the name.
        TemplateUnknown: The gallery has no such example.
    """
    for example in find_faces(galleries, gallery, [image_id]).values():
        return example
    raise TemplateUnknown("no example has this image_id")


@router.post("")
@router.post("/")
async def add(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Add the only face of a photo as an example of a subject, which is created if it is missing."""
    subject = request.query_params.get("subject", "")
    if not subject.strip():
        raise at(MemberMissing("Required String parameter 'subject' is not present"), "subject")
    return await backend.answer_change(request, partial(_prepare, gallery, subject), partial(_store, gallery))


@router.get("")
@router.get("/")
async def list_examples(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """List the examples of a subject or of all, page by page."""
    query = validate_options(dict(request.query_params), ExamplesQuery)
    return await backend.call_gallery(_list, backend.galleries, gallery, query)


@router.delete("")
@router.delete("/")
async def delete_all(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Erase a subject, or all, with their examples, and return the number of examples."""
    name = request.query_params.get("subject")
    if name is not None and not name.strip():  # not all: whoever sends it has lost the name
        raise at(MemberInvalid("Subject name cannot be empty"), "subject")

    def work(deadline: Deadline) -> tuple[int, Event]:
        try:
            erased = (
                erase_all(backend.galleries, gallery, deadline)
                if name is None
                else erase_named(backend.galleries, gallery, name, deadline)
            )
        except SubjectUnknown:
            return 0, Event("erase_subject", [gallery], count=0)
        return erased.examples, erased.event

    deleted = await backend.change_for(request, backend.deadline(request), work)
    return json_answer({"deleted": deleted})


@router.post("/delete")
async def delete_several(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Erase examples by their ids; unknown ones are ignored."""
    return await backend.answer_change(request, _read_ids, partial(_delete_several, gallery))


@router.delete("/{image_id}")
async def delete(image_id: str, request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Erase an example."""

    def work(deadline: Deadline) -> tuple[OwnedTemplate, Event]:
        with backend.galleries.database.exclusive(deadline):  # otherwise it could be erased or moved before
            example = example_of(backend.galleries, gallery, image_id)
            return example, _erase(backend.galleries, gallery, [example])

    return json_answer(_members(await backend.change_for(request, backend.deadline(request), work)))


@router.get("/{image_id}/img")
async def image(image_id: str, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Return the aligned crop of an example, if the gallery keeps crops."""
    return await backend.call_gallery(_image, backend.galleries, gallery, image_id)


static_router = compreface_router("static")


@static_router.get("/{key}/images/{image_id}")
async def static_image(image_id: str, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Return the aligned crop of an example like `image`; the key is in the path, for addresses on web pages."""
    return await backend.call_gallery(_image, backend.galleries, gallery, image_id)


@dataclass(frozen=True, slots=True)
class _Example:
    """An example that is ready to be stored.

    Attributes:
        subject: Name of its subject, as received.
        image_id: Its id.
        enrolment: Its enrolment.
    """

    subject: str
    image_id: str
    enrolment: Prepared


def _prepare(gallery: str, subject: str, backend: Backend, received: ReceivedRequest, deadline: Deadline) -> _Example:
    options = read_options(received, FaceOptions)
    (photo,) = read_photos(received, backend.settings.request, ["file"])
    entry, requirements = Entry(subject, photo), Requirements(min_score=options.min_score)
    enrolment = prepare(backend.galleries, backend.models, gallery, [entry], requirements, deadline)
    return _Example(subject, face_id(image_source(photo)), enrolment)


def _store(
    gallery: str, backend: Backend, example: _Example, received: ReceivedRequest, deadline: Deadline
) -> Response:
    """Store an example under the name that its subject has at this moment, so that no second spelling is made."""
    galleries = backend.galleries
    with galleries.database.exclusive(deadline):
        name = stored_name(galleries, gallery, example.subject)
        (outcome,) = store(galleries, example.enrolment.under(name), deadline)
        received.events.append(enrolment_event(galleries, gallery, [name], [outcome]))
    if isinstance(outcome, VultusError):
        if not (isinstance(outcome, DuplicateOfAnother) and outcome.subject == name):  # the name in another spelling
            raise outcome
    elif outcome.assessment is not None:
        backend.metrics.observe_quality([outcome.assessment])
    return json_answer({"image_id": example.image_id, "subject": name}, deadline, status=201)


def _list(galleries: Galleries, gallery: str, query: ExamplesQuery) -> Response:
    subject = None
    if query.subject:
        try:
            subject = find_subject_ignoring_case(galleries, gallery, query.subject)
        except SubjectUnknown:
            return json_answer(page_members([], query.page, query.size, 0))
    templates, total = list_templates(galleries, gallery, query.size, skip=query.page * query.size, subject=subject)
    return json_answer(page_members(list(map(_members, templates)), query.page, query.size, total))


def _read_ids(_backend: Backend, received: ReceivedRequest, _deadline: Deadline) -> list[str]:
    """Return the ids of a JSON list."""
    ids = parse_list(received.body())
    if len(ids) > _MAX_IDS or not all(isinstance(image_id, str) for image_id in ids):
        raise MemberInvalid(f"the body is not a list of at most {_MAX_IDS:,} ids")
    return ids


def _delete_several(
    gallery: str, backend: Backend, ids: list[str], received: ReceivedRequest, deadline: Deadline
) -> Response:
    with backend.galleries.database.exclusive(deadline):
        templates = list(find_faces(backend.galleries, gallery, ids).values())
        received.events.append(_erase(backend.galleries, gallery, templates))
    return json_answer(list(map(_members, templates)))


def _erase(galleries: Galleries, gallery: str, templates: list[OwnedTemplate]) -> Event:
    subjects = pseudonyms_of(galleries, list({template.subject_key for template in templates}))
    erased = erase_templates(galleries, gallery, templates)
    return Event("erase_template", [gallery], list(subjects.values()), count=len(erased))


def _image(galleries: Galleries, gallery: str, image_id: str) -> Response:
    crop = crop_of_template(galleries, gallery, example_of(galleries, gallery, image_id))
    if crop is None:
        raise CropMissing("the gallery keeps no crops of faces, so this example has no image")
    return Response(crop, media_type="image/png")


def _members(template: OwnedTemplate) -> dict[str, str]:
    return {"image_id": face_id(template.source), "subject": template.subject}
