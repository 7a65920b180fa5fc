"""Erasing of subjects, whom CompreFace erases by two routes."""

from typing import NamedTuple

from models.deadline import Deadline
from service.audit.records import Event
from service.gallery.administration import find_subject_ignoring_case
from service.gallery.erasure import erase_subject, erase_subjects
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of_names


class Erased(NamedTuple):
    """What was erased.

    Attributes:
        subjects: Number of subjects.
        examples: Number of their examples.
        name: Name of the subject as it was stored; None for all.
        event: What is to be recorded.
    """

    subjects: int
    examples: int
    name: str | None
    event: Event


def erase_one(galleries: Galleries, gallery: str, name: str, deadline: Deadline) -> Erased:
    """Erase a subject, found without regard to case.

    Raises:
        GalleryUnknown: No gallery has the name.
        SubjectUnknown: The gallery has no such subject.
    """
    with galleries.database.exclusive(deadline):  # afterwards, the subject has no pseudonym
        stored = find_subject_ignoring_case(galleries, gallery, name).name
        pseudonyms = pseudonyms_of_names(galleries, gallery, [stored])
        count = erase_subject(galleries, gallery, stored).template_count
    return Erased(1, count, stored, Event("erase_subject", [gallery], pseudonyms, count=count))


def erase_all(galleries: Galleries, gallery: str, deadline: Deadline) -> Erased:
    """Erase all subjects of a gallery.

    Raises:
        GalleryUnknown: No gallery has the name.
    """
    receipts = erase_subjects(galleries, gallery, deadline)
    count = sum(receipt.template_count for receipt in receipts)
    return Erased(len(receipts), count, None, Event("erase_subject", [gallery], count=count))
