"""Records of the audit log.

A record names no subject. It has the pseudonym of a subject: random bytes that the gallery store keeps in the row of
the subject. With the row, the only link between pseudonym and person is erased, and the log still proves who acted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal[
    "verify",
    "identify",
    "enrol",
    "import",
    "export",
    "create_gallery",
    "change_gallery",
    "erase_gallery",
    "create_subject",
    "change_subject",
    "merge_subjects",
    "erase_subject",
    "erase_template",
    "expire_subject",
    "expire_template",
    "create_key",
    "rotate_key",
    "encrypt",
    "rotate_master_key",
    "revoke_key",
    "backup",
]

SIMILARITY_DIGITS = 3  # a similarity is not more reproducible than that between precisions
COMMAND_LINE = "command line"
"""Who acts if no key was used: an operator with access to the files."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision on one face.

    Attributes:
        decision: Decision at the operating point; None without one.
        similarity: Cosine in [-1, 1] of the compared sides, or of the best candidate; None without a candidate.
        subject: Pseudonym of the compared subject or the best candidate; None if there is none.
    """

    decision: str | None
    similarity: float | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What was done.

    Attributes:
        action: Kind of the event.
        galleries: Names of the galleries.
        subjects: Pseudonyms of the subjects.
        outcomes: Decisions, one for each face.
        operating_point: Name of the operating point of the decisions.
        contract_id: Contract of the embeddings.
        count: Number of templates that were enrolled, imported, exported or erased; None if it does not apply.
        key: Id of the key that was made, rotated or revoked.
    """

    action: Action
    galleries: Sequence[str] = ()
    subjects: Sequence[str] = ()
    outcomes: Sequence[Outcome] = ()
    operating_point: str | None = None
    contract_id: str | None = None
    count: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, and by which request.

    Attributes:
        key: Id of the key, `COMMAND_LINE`, or `open` for a service that needs no key.
        route: Method and template of the path; the command on the command line.
        request_id: Id of the request; None on the command line.
    """

    key: str
    route: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of the log.

    Attributes:
        number: Position in the log, from 1, without gaps.
        content: What is recorded, as canonical JSON.
        digest: HMAC-SHA-256 over the digest of the record before it, the number and the content; 32 bytes.
    """

    number: int
    content: str
    digest: bytes = field(repr=False)


def content_of(event: Event, actor: Actor, at: float) -> str:
    """Write an event as canonical JSON: sorted members, none without a value.

    Args:
        event: What was done.
        actor: Who did it.
        at: Seconds since 1970.
    """
    members: dict[str, Any] = {
        "time": round(at, 3),
        "key": actor.key,
        "route": actor.route,
        "request_id": actor.request_id,
        "action": event.action,
        "galleries": list(event.galleries),
        "subjects": list(event.subjects),
        "outcomes": [_outcome(outcome) for outcome in event.outcomes],
        "operating_point": event.operating_point,
        "contract_id": event.contract_id,
        "count": event.count,
        "changed_key": event.key,
    }
    return json.dumps(_given(members), ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _outcome(outcome: Outcome) -> dict[str, Any]:
    similarity = None if outcome.similarity is None else round(outcome.similarity, SIMILARITY_DIGITS)
    return _given({"decision": outcome.decision, "similarity": similarity, "subject": outcome.subject})


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, [])}
