"""Ids of stored faces as clients of other products know them: UUIDs.

The id of a template is the beginning of the digest of its source, which is unique in its gallery, in the form of a UUID
of version 5 (RFC 9562, section 5.5: a digest of a name), because some clients check that form. It needs no table of its
own, is found by the SQL index of sources, and survives an export.
"""

import uuid
from collections.abc import Iterable

from service.gallery.galleries import Galleries
from service.gallery.records import OwnedTemplate
from service.gallery.template_reading import find_templates

_ID_BYTES = 16
_VERSION = 5
_PREFIX_BYTES = 6  # before the bits of the version, which are not those of the digest


def face_id(source: bytes) -> str:
    """Return the id of the template of a source (SHA-256, 32 bytes)."""
    return str(uuid.UUID(bytes=source[:_ID_BYTES], version=_VERSION))


def find_faces(galleries: Galleries, gallery: str, ids: Iterable[str]) -> dict[str, OwnedTemplate]:
    """Return stored faces by their ids, each once and in order; unknown ids are missing from the answer.

    Raises:
        GalleryUnknown: No gallery has the name.
    """
    wanted = dict.fromkeys(text for text in map(_normal, ids) if text is not None)
    prefixes = dict.fromkeys(uuid.UUID(text).bytes[:_PREFIX_BYTES] for text in wanted)
    found = {face_id(template.source): template for template in find_templates(galleries, gallery, list(prefixes))}
    return {text: found[text] for text in wanted if text in found}


def _normal(text: str) -> str | None:
    """Return an id in the form in which `face_id` writes it; None if it is no UUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None
