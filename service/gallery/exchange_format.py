"""The lines of an exported gallery.

An export is a header, a line for each subject without templates, a line for each template, and an end line. Every line
before the end line carries the contract id. A missing end line reveals a truncated export. Lines do not depend on each
other, so files can be written by hand or by other programs; such files may omit the header and the end line.

Version 2 added `gallery` of the header, `created` of subjects without templates, and `subject_created` and `crop` of
templates; `retain_days`, `subject_expires`, `expires` and `template_metadata` are there if
they are set. `exchange_reader` reads files of
version 1 too.
"""

import base64
import json
from typing import Any

from service.gallery.records import Gallery, NewSubject, NewTemplate

FORMAT = "vultus-templates/2"
OLD_FORMATS = ("vultus-templates/1",)


def header_line(gallery: Gallery) -> bytes:
    """Return the first line of an export."""
    return _line(
        {
            "format": FORMAT,
            "contract_id": gallery.contract_id,
            "dimensions": gallery.dimensions,
            "gallery": {
                "name": gallery.name,
                "index": gallery.index,
                "keep_crops": gallery.keep_crops,
                "min_quality": gallery.min_quality,
                "metadata": gallery.metadata,
                "created": gallery.created,
                **({"retain_days": gallery.retain_days} if gallery.retain_days else {}),
            },
        }
    )


def subject_line(gallery: Gallery, name: str, subject: NewSubject) -> bytes:
    """Return the line of a subject without templates."""
    return _line(
        {
            "subject": name,
            "metadata": subject.metadata,
            "contract_id": gallery.contract_id,
            "created": subject.created,
            **_given("subject_expires", subject.expires),
        }
    )


def template_line(gallery: Gallery, name: str, subject: NewSubject, template: NewTemplate) -> bytes:
    """Return the line of a template."""
    return _line(
        {
            "subject": name,
            **({"metadata": subject.metadata} if subject.metadata else {}),
            "subject_created": subject.created,
            **_given("subject_expires", subject.expires),
            "contract_id": gallery.contract_id,
            "embedding": base64.b64encode(template.embedding.astype("<f4").tobytes()).decode(),
            "norm": template.norm,
            "quality": template.quality,
            "source": template.source.hex(),
            "created": template.created,
            **_given("expires", template.expires),
            **({"template_metadata": template.metadata} if template.metadata else {}),
            **({} if template.crop is None else {"crop": base64.b64encode(template.crop).decode()}),
        }
    )


def end_line(templates: int) -> bytes:
    """Return the last line of an export."""
    return _line({"end": {"templates": templates}})


def _given(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
