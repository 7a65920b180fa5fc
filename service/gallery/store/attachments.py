"""Rows of the tables `crops` and `template_metadata`: what a template may have beside its embedding."""

import json
from collections.abc import Sequence

from service.gallery.records import Gallery, Metadata, NewTemplate
from service.gallery.store.contents import StoreConnection, What, open_values, seal_values
from service.gallery.store.slices import slices

_TABLES: dict[What, tuple[str, str]] = {"crop": ("crops", "png"), "template_metadata": ("template_metadata", "json")}


def add(connection: StoreConnection, gallery: Gallery, stored: Sequence[tuple[int, int, NewTemplate]]) -> None:
    """Store the crops and metadata of templates that were just stored.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the templates; crops are stored if it keeps crops.
        stored: Keys of the template and of its subject, and the template.
    """
    if gallery.keep_crops:
        crops = [(key, owner, entry.crop) for key, owner, entry in stored if entry.crop is not None]
        _insert(connection, gallery, "crop", crops)
    metadata = [(key, owner, json.dumps(entry.metadata).encode()) for key, owner, entry in stored if entry.metadata]
    _insert(connection, gallery, "template_metadata", metadata)


def crop_of(connection: StoreConnection, gallery: Gallery, template: int) -> bytes | None:
    """Read the crop of a template, a PNG file; None if it is not stored."""
    return _read(connection, gallery, "crop", [template]).get(template)


def metadata_of(connection: StoreConnection, gallery: Gallery, templates: Sequence[int]) -> dict[int, Metadata]:
    """Read the metadata of templates by key; those without any are missing from the answer."""
    found = _read(connection, gallery, "template_metadata", templates)
    return {key: json.loads(text) for key, text in found.items()}


def _insert(
    connection: StoreConnection, gallery: Gallery, what: What, values: Sequence[tuple[int, int, bytes]]
) -> None:
    """Store values, given with the keys of their templates and subjects."""
    if not values:
        return
    table, column = _TABLES[what]
    keys, owners, contents = zip(*values, strict=True)
    sealed = seal_values(connection, what, [gallery.contract_id] * len(values), owners, keys, contents)
    connection.executemany(f"INSERT INTO {table} (template, {column}) VALUES (?, ?)", zip(keys, sealed, strict=True))


def _read(connection: StoreConnection, gallery: Gallery, what: What, templates: Sequence[int]) -> dict[int, bytes]:
    """Read values by the key of their template; those of erased subjects are missing from the answer."""
    table, column = _TABLES[what]
    rows: list[tuple[int, int, bytes]] = []
    for part, marks in slices(templates):
        rows += connection.execute(
            f"SELECT key, subject, {column} FROM templates JOIN {table} ON template = key "
            f"WHERE gallery = ? AND key IN ({marks})",
            (gallery.key, *part),
        )
    if not rows:
        return {}
    keys, owners, stored = zip(*rows, strict=True)
    opened = open_values(connection, what, [gallery.contract_id] * len(rows), owners, keys, stored)
    return {key: value for key, value in zip(keys, opened, strict=True) if value is not None}
