"""Erasing of subjects, whom CompreFace erases by two routes.

A name in another case erases all subjects that have it: whoever erases a person must not leave them recognisable.
"""

from typing import NamedTuple

from models.deadline import Deadline
from service.audit.records import Event
from service.errors import SubjectAmbiguous
from service.gallery.administration import find_subject_ignoring_case, spellings_of_subject
from service.gallery.erasure import erase_subjects
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of_names


class Erased(NamedTuple):
    """What was erased.

    Attributes:
        subjects: Number of subjects.
        examples: Number of their examples.
        names: Names of the subjects as they were stored; None for all.
        event: What is to be recorded.
    """

    subjects: int
    examples: int
    names: list[str] | None
    event: Event


def erase_named(galleries: Galleries, gallery: str, name: str, deadline: Deadline) -> Erased:
    """Erase the subject of a name, or else all subjects whose names differ in case only.

    Raises:
        GalleryUnknown: No gallery has the name.
        SubjectUnknown: The gallery has no such subject.
    """
    with galleries.database.exclusive(deadline):  # afterwards, the subject has no pseudonym
        try:
            names = [find_subject_ignoring_case(galleries, gallery, name).name]
        except SubjectAmbiguous:
            names = spellings_of_subject(galleries, gallery, name)
        pseudonyms = pseudonyms_of_names(galleries, gallery, names)
        receipts = erase_subjects(galleries, gallery, names=names)
    count = sum(receipt.template_count for receipt in receipts)
    return Erased(len(names), count, names, Event("erase_subject", [gallery], pseudonyms, count=count))


def erase_all(galleries: Galleries, gallery: str, deadline: Deadline) -> Erased:
    """Erase all subjects of a gallery.

    Raises:
        GalleryUnknown: No gallery has the name.
    """
    receipts = erase_subjects(galleries, gallery, deadline)
    count = sum(receipt.template_count for receipt in receipts)
    return Erased(len(receipts), count, None, Event("erase_subject", [gallery], count=count))
