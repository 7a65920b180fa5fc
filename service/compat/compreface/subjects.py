"""`/api/v1/recognition/subjects`: the subjects of the gallery of the key, found without regard to case."""

from contextlib import suppress
from functools import partial

from fastapi import Request, Response

from models.deadline import Deadline
from service.api.backend import Backend, UsesBackend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.compreface.erasing import erase_all, erase_named
from service.compat.compreface.gallery import UsesGallery
from service.compat.compreface.intake import read_json, read_subject
from service.compat.compreface.routing import compreface_router
from service.compat.compreface.wire import json_answer
from service.errors import SubjectAmbiguous, SubjectExists, SubjectUnknown
from service.gallery.administration import (
    change_subject,
    create_subject,
    find_subject_ignoring_case,
    list_subjects,
    merge_subjects,
    spellings_of_subject,
)
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.pseudonyms import pseudonyms_of, pseudonyms_of_names

router = compreface_router("recognition/subjects")


def stored_name(galleries: Galleries, gallery: str, name: str) -> str:
    """Return the name of a subject as it is stored, or the name itself if there is no such subject.

    It stays the name as long as the caller excludes other writers.

    Raises:
        GalleryUnknown: No gallery has the name.
        SubjectAmbiguous: Several subjects have the name in other spellings.
        NameInvalid: There is no such subject, and there cannot be one.
    """
    with suppress(SubjectUnknown):
        return find_subject_ignoring_case(galleries, gallery, name).name
    return clean_name(name, "subject")


@router.post("")
@router.post("/")
async def create(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Create a subject without examples."""
    return await backend.answer_change(request, _read_name, partial(_create, gallery))


@router.get("")
@router.get("/")
async def list_all(backend: UsesBackend, gallery: UsesGallery) -> Response:
    """List the names of all subjects."""
    found = await backend.call_gallery(list_subjects, backend.galleries, gallery, "", -1)
    return json_answer({"subjects": [subject.name for subject in found]})


@router.put("/{subject}")
async def rename(subject: str, request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Rename a subject; if another one has the new name, the examples of both become its own."""
    return await backend.answer_change(request, _read_new_name, partial(_rename, gallery, subject))


@router.delete("")
@router.delete("/")
async def delete_all(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Erase all subjects with their examples."""

    def work(deadline: Deadline) -> tuple[int, Event]:
        erased = erase_all(backend.galleries, gallery, deadline)
        return erased.subjects, erased.event

    return json_answer({"deleted": await backend.change_for(request, backend.deadline(request), work)})


@router.delete("/{subject}")
async def delete(subject: str, request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Erase a subject with its examples; the answer names all, if several have the name in other spellings."""

    def work(deadline: Deadline) -> tuple[str, Event]:
        erased = erase_named(backend.galleries, gallery, subject, deadline)
        return ", ".join(erased.names or ()), erased.event

    return json_answer({"subject": await backend.change_for(request, backend.deadline(request), work)})


def _read_name(_backend: Backend, received: ReceivedRequest, _deadline: Deadline) -> str:
    return clean_name(read_subject(received), "subject")


def _read_new_name(_backend: Backend, received: ReceivedRequest, _deadline: Deadline) -> str | None:
    """Return the new name; None if it is empty, which changes nothing."""
    name = read_json(received).get("subject")
    return clean_name(name, "subject") if isinstance(name, str) and name else None


def _create(gallery: str, backend: Backend, name: str, received: ReceivedRequest, deadline: Deadline) -> Response:
    galleries = backend.galleries
    with galleries.database.exclusive(deadline):
        if spellings_of_subject(galleries, gallery, name):
            raise SubjectExists("Subject already exists")
        created = create_subject(galleries, gallery, name)
    pseudonyms = list(pseudonyms_of(galleries, [created.key]).values())
    received.events.append(Event("create_subject", [gallery], pseudonyms))
    return json_answer({"subject": created.name}, status=201)


def _rename(
    gallery: str, old: str, backend: Backend, new: str | None, received: ReceivedRequest, deadline: Deadline
) -> Response:
    galleries = backend.galleries
    with galleries.database.exclusive(deadline):
        subject = find_subject_ignoring_case(galleries, gallery, old)
        if new is None or new == subject.name:
            return json_answer({"updated": False})
        pseudonyms = pseudonyms_of_names(galleries, gallery, [subject.name])
        other = _other_of_name(galleries, gallery, subject.name, new)
        if other is None:
            change_subject(galleries, gallery, subject.name, new)
            event = Event("change_subject", [gallery], pseudonyms)
        else:
            changed = merge_subjects(galleries, gallery, other, subject.name)
            kept = pseudonyms_of(galleries, [changed.key]).values()
            event = Event("merge_subjects", [gallery], [*kept, *pseudonyms])
    received.events.append(event)
    return json_answer({"updated": True})


def _other_of_name(galleries: Galleries, gallery: str, name: str, new: str) -> str | None:
    """Return the stored name of the other subject that a new name means; None if it is free.

    A subject may take its own name in another case, beside others that have it, too.

    Raises:
        SubjectAmbiguous: Several others have the new name in other spellings.
    """
    try:
        other = find_subject_ignoring_case(galleries, gallery, new).name
    except SubjectUnknown:
        return None
    except SubjectAmbiguous:
        if name in spellings_of_subject(galleries, gallery, new):
            return None
        raise
    return None if other == name else other
