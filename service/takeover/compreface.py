"""Taking over a recognition service of CompreFace: its photos are embedded anew, because its model is another one.

The template of a photo has the id of its example as metadata, so a repeated run knows what was taken over without
fetching it again.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from models.deadline import Deadline
from models.errors import ImageTooManyBytes, VultusError
from models.serving.models import Models
from service.errors import NameInvalid, PhotoUnreachable, SubjectAmbiguous, SubjectUnknown
from service.gallery.administration import create_subject, find_subject_ignoring_case
from service.gallery.galleries import Galleries
from service.gallery.template_reading import list_templates, metadata_of_templates
from service.operations.acquire import Requirements
from service.operations.enrol import Entry, Outcome
from service.operations.enrol import enrol as enrol_photos
from service.takeover.compreface_source import CompreFaceSource, Example

EXAMPLE_ID = "compreface_image_id"
"""Member of a template's metadata: the id of the example from which it was made."""

_BATCH = 16  # photos
_CONCURRENT_BATCHES = 2  # one is fetched while the other is embedded
_KNOWN_AT_ONCE = 10_000  # templates whose metadata are read at once


@dataclass(frozen=True, slots=True)
class TakenSubjects:
    """The subjects of a CompreFace in a gallery.

    Attributes:
        names: Names under which they are stored, by their names in CompreFace.
        created: Names of those that the gallery did not have.
        refused: Errors of names that a gallery cannot have, or has in several other spellings.
    """

    names: dict[str, str]
    created: list[str]
    refused: dict[str, VultusError]


def take_over_subjects(source: CompreFaceSource, galleries: Galleries, gallery: str) -> TakenSubjects:
    """Create the subjects that the gallery lacks.

    Raises:
        TakeoverFailed: CompreFace did not answer.
        GalleryUnknown: No gallery has the name.
    """
    taken = TakenSubjects({}, [], {})
    for name in source.subjects():
        try:
            taken.names[name] = find_subject_ignoring_case(galleries, gallery, name).name
        except SubjectUnknown:
            try:
                taken.names[name] = create_subject(galleries, gallery, name).name
                taken.created.append(taken.names[name])
            except NameInvalid as error:
                taken.refused[name] = error
        except SubjectAmbiguous as error:
            taken.refused[name] = error
    return taken


def taken_over(galleries: Galleries, gallery: str) -> set[str]:
    """Return the ids of the examples that were taken over before.

    Raises:
        GalleryUnknown: No gallery has the name.
    """
    known: set[str] = set()
    last = 0
    while templates := list_templates(galleries, gallery, _KNOWN_AT_ONCE, after=last)[0]:
        metadata = metadata_of_templates(galleries, gallery, [template.key for template in templates])
        known.update(str(found[EXAMPLE_ID]) for found in metadata.values() if EXAMPLE_ID in found)
        last = templates[-1].key
    return known


def take_over_photos(
    source: CompreFaceSource,
    galleries: Galleries,
    models: Models,
    gallery: str,
    subjects: TakenSubjects,
    examples: Iterator[Example],
    requirements: Requirements,
) -> Generator[list[tuple[Example, Outcome]], None, None]:
    """Fetch, embed and store the photos of examples, and yield the outcomes of each batch in order.

    Args:
        source: The CompreFace.
        galleries: The open galleries.
        models: Models that detect and embed faces.
        gallery: Name of the gallery.
        subjects: The subjects that were taken over; photos of refused ones are not fetched.
        examples: Examples to take over.
        requirements: Conditions that the photos must meet.

    Raises:
        TakeoverFailed: CompreFace did not answer.
        VultusError: The gallery could not be changed.
    """

    def work(batch: Sequence[Example]) -> list[tuple[Example, Outcome]]:
        outcomes: dict[str, Outcome] = {}
        entries: dict[str, Entry] = {}
        for example in batch:
            if refusal := subjects.refused.get(example.subject):
                outcomes[example.image_id] = refusal
                continue
            try:
                photo = source.photo(example.image_id)
            except ImageTooManyBytes as error:
                outcomes[example.image_id] = error
                continue
            if photo:
                name = subjects.names.get(example.subject, example.subject)
                entries[example.image_id] = Entry(name, photo, metadata={EXAMPLE_ID: example.image_id})
            else:
                outcomes[example.image_id] = PhotoUnreachable("CompreFace does not keep the photo of this example")
        stored = enrol_photos(galleries, models, gallery, list(entries.values()), requirements, Deadline())
        outcomes |= dict(zip(entries, stored, strict=True))
        return [(example, outcomes[example.image_id]) for example in batch]

    batches = iter(lambda: list(islice(examples, _BATCH)), [])
    with ThreadPoolExecutor(_CONCURRENT_BATCHES, thread_name_prefix="takeover") as workers:
        waiting = [workers.submit(work, batch) for batch in islice(batches, _CONCURRENT_BATCHES)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [workers.submit(work, batch) for batch in islice(batches, 1)]
