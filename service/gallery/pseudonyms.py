"""Pseudonyms of subjects, which stand for them in the audit log and are erased with them."""

from collections.abc import Sequence

from service.gallery.galleries import Galleries
from service.gallery.store import subject_rows


def pseudonyms_of(galleries: Galleries, keys: Sequence[int]) -> dict[int, str]:
    """Return the pseudonyms of subjects by their keys; erased subjects are missing from the answer."""
    if not keys:
        return {}
    with galleries.database.reading() as connection:
        return subject_rows.pseudonyms(connection, keys)


def pseudonyms_of_names(galleries: Galleries, gallery: str, names: Sequence[str]) -> list[str]:
    """Return the pseudonyms of named subjects of a gallery, as far as they exist, each once and sorted."""
    if not names:
        return []
    with galleries.database.reading() as connection:
        return sorted(subject_rows.pseudonyms_by_name(connection, gallery, list(dict.fromkeys(names))).values())
