"""Events of operations, as the audit log records them."""

from collections.abc import Iterator, Sequence

from service.audit.records import Event, Outcome
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of, pseudonyms_of_names
from service.gallery.records import TemplateCandidate
from service.operations.enrol import Enrolled
from service.operations.identify import Identification
from service.operations.verify import Comparison, EnrolledSubject, Verification

_MAX_OUTCOMES = 1000  # of one record; more faces make more records


def verification_event(galleries: Galleries, comparison: Comparison, verification: Verification) -> Event:
    """Return the event of a verification."""
    sides = [side for side in (comparison.probe, comparison.reference) if isinstance(side, EnrolledSubject)]
    subjects = [name for side in sides for name in pseudonyms_of_names(galleries, side.gallery, [side.subject])]
    return Event(
        "verify",
        galleries=list(dict.fromkeys(side.gallery for side in sides)),
        subjects=subjects,
        outcomes=[Outcome(verification.decision, verification.similarity)],
        operating_point=verification.point.name if verification.point else None,
        contract_id=galleries.contract_id,
    )


def identification_events(
    galleries: Galleries, searched: Sequence[str], identification: Identification
) -> Iterator[Event]:
    """Yield the events of a search: each face with its decision and its best candidate."""
    faces = identification.faces
    best = [face.candidates[0] if face.candidates else None for face in faces]
    pseudonyms = pseudonyms_of(galleries, list({candidate.key for candidate in best if candidate}))
    outcomes = [
        Outcome(
            face.decision,
            candidate.similarity if candidate else None,
            pseudonyms.get(candidate.key) if candidate else None,
        )
        for face, candidate in zip(faces, best, strict=True)
    ]
    for start in range(0, len(outcomes) or 1, _MAX_OUTCOMES):
        yield Event(
            "identify",
            galleries=list(dict.fromkeys(searched)),
            outcomes=outcomes[start : start + _MAX_OUTCOMES],
            operating_point=identification.point.name if identification.point else None,
            contract_id=galleries.contract_id,
        )


def template_search_events(
    galleries: Galleries, gallery: str, found: Sequence[Sequence[TemplateCandidate]]
) -> Iterator[Event]:
    """Yield the events of a search for templates: each face with its best candidate."""
    best = [candidates[0] if candidates else None for candidates in found]
    pseudonyms = pseudonyms_of(galleries, list({entry.template.subject_key for entry in best if entry}))
    outcomes = [
        Outcome(
            None,
            entry.similarity if entry else None,
            pseudonyms.get(entry.template.subject_key) if entry else None,
        )
        for entry in best
    ]
    for start in range(0, len(outcomes) or 1, _MAX_OUTCOMES):
        yield Event(
            "identify",
            galleries=[gallery],
            outcomes=outcomes[start : start + _MAX_OUTCOMES],
            contract_id=galleries.contract_id,
        )


def comparison_event(galleries: Galleries, similarities: Sequence[float], gallery: str | None = None) -> Event:
    """Return the event of a comparison of faces without a decision, with the greatest similarities."""
    greatest = sorted(similarities, reverse=True)[:_MAX_OUTCOMES]
    return Event(
        "verify",
        galleries=[gallery] if gallery else [],
        outcomes=[Outcome(None, similarity) for similarity in greatest],
        contract_id=galleries.contract_id,
    )


def enrolment_event(galleries: Galleries, gallery: str, subjects: Sequence[str], outcomes: Sequence[object]) -> Event:
    """Return the event of an enrolment.

    Args:
        galleries: The open galleries.
        gallery: Name of the gallery.
        subjects: Name of the subject of each entry.
        outcomes: For each entry, its template or the error with which it was refused.
    """
    stored = [
        subject
        for subject, outcome in zip(subjects, outcomes, strict=True)
        if isinstance(outcome, Enrolled) and outcome.outcome == "enrolled"
    ]
    return Event(
        "enrol",
        galleries=[gallery],
        subjects=pseudonyms_of_names(galleries, gallery, stored),
        contract_id=galleries.contract_id,
        count=len(stored),
    )
