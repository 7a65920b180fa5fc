"""Names of subjects: users have the names that clients give them, and a face without a user is a subject of its own.

A subject is a face without a user only if its one template is that face. Other subjects may have such names, because
the own API and CompreFace's surface accept them.
"""

from collections.abc import Iterable

from service.compat.face_ids import face_id
from service.gallery.galleries import Galleries
from service.gallery.records import OwnedTemplate, TemplateName
from service.gallery.single_templates import singles_among

_BEGINNING = "face "


def own_subject(source: bytes) -> str:
    """Return the name of the subject of a face that belongs to no user, given by the source of its template."""
    return f"{_BEGINNING}{face_id(source)}"


FACE = TemplateName(_BEGINNING, own_subject)
"""Form of the names of faces without a user. A number follows if another subject has the name."""


def faces_without_user(galleries: Galleries, collection: str, templates: Iterable[OwnedTemplate]) -> frozenset[int]:
    """Return the keys of those templates that belong to no user.

    Raises:
        GalleryUnknown: The collection does not exist.
    """
    found = list(templates)
    named = [template.subject_key for template in found if FACE.names(template.subject, template.source)]
    singles = singles_among(galleries, collection, FACE, named) if named else frozenset()
    return frozenset(template.key for template in found if template.subject_key in singles)


def users_among(galleries: Galleries, collection: str, subjects: Iterable[tuple[int, str]]) -> frozenset[int]:
    """Return the keys of those subjects, given by key and name, that are users.

    Raises:
        GalleryUnknown: The collection does not exist.
    """
    found = dict(subjects)
    named = [key for key, name in found.items() if name.startswith(_BEGINNING)]
    return frozenset(found) - (singles_among(galleries, collection, FACE, named) if named else frozenset())
