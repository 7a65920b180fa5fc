"""Value types for the contents of a gallery."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

IndexKind = Literal["auto", "flat", "flat-fp16", "sq8", "hnsw"]
Fusion = Literal["max", "mean", "quality-weighted"]

Outcome = Literal["enrolled", "duplicate", "refused", "full"]

Metadata = dict[str, Any]

NEVER: Final = "never"

Expiry = float | Literal["never"] | None
"""A change of the time of expiry: seconds since 1970, `never`, or None to leave it as it is."""

MAX_METADATA_DEPTH = 64  # objects and lists in one another; JSON encoders have limits of some hundred
MAX_METADATA_CHARACTERS = 16384  # characters of the metadata as JSON
MAX_RETAIN_DAYS = 36525  # a century
MAX_NORM = 1e6  # of an embedding; norms of real recognizers are below 100

_NUMBERED = re.compile(r" [1-9][0-9]*")


def is_measured(quality: float | None) -> bool:
    """Return whether the error rates of a calibration hold for a stored face of this quality.

    Strangers whose faces are hardly recognisable (quality 0) resemble each other, so no rate was measured for them. An
    unknown quality, as of an embedding that was imported without its norm, is taken for sufficient.
    """
    return quality is None or quality > 0


@dataclass(frozen=True, slots=True)
class Gallery:
    """A named set of subjects whose templates share one embedding contract.

    Attributes:
        key: Row key, never reused.
        name: Unique name.
        contract_id: Contract of all embeddings in the gallery.
        dimensions: D, length of each embedding vector.
        index: Configured kind of index.
        keep_crops: Whether aligned crops are stored with templates.
        metadata: Metadata supplied by the user.
        created: Seconds since 1970.
        min_quality: Minimum quality, 0 to 100, of faces that are enrolled or searched for.
        retain_days: Days after which a template is erased; 0 for no limit.
    """

    key: int
    name: str
    contract_id: str
    dimensions: int
    index: IndexKind
    keep_crops: bool
    metadata: Metadata
    created: float
    min_quality: float = 0.0
    retain_days: float = 0.0


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """The settings of an exported gallery.

    Attributes:
        index, keep_crops, min_quality, metadata, retain_days: As those of `Gallery`.
        created: Seconds since 1970; None if unknown.
    """

    index: IndexKind
    keep_crops: bool
    min_quality: float
    metadata: Metadata
    created: float | None
    retain_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A person in a gallery.

    Attributes:
        key: Row key, never reused.
        name: Id of the person supplied by the user, unique in the gallery.
        metadata: Metadata supplied by the user.
        created: Seconds since 1970.
        template_count: Number of the subject's templates.
        expires: Seconds since 1970 at which the subject is erased; None for never.
    """

    key: int
    name: str
    metadata: Metadata
    created: float
    template_count: int
    expires: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NewSubject:
    """A subject to create if it is missing.

    Attributes:
        metadata: Metadata supplied by the user.
        created: Seconds since 1970; None means now.
        expires: Seconds since 1970 at which the subject is erased; None for never.
    """

    metadata: Metadata = field(default_factory=dict)
    created: float | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """The attributes of a stored template, without the embedding."""

    key: int
    norm: float | None
    quality: float | None
    contract_id: str
    source: bytes
    created: float
    has_crop: bool
    expires: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NewTemplate:
    """An embedding to store.

    Attributes:
        embedding: (D,) float32 of length 1.
        source: SHA-256 of the input: an image file, or the embedding itself. A gallery stores each source once.
        norm: Length of the embedding before normalisation, or None if unknown.
        quality: 0 to 100, higher is better (ISO/IEC 29794-1), or None.
        crop: Aligned crop as a PNG file, or None.
        created: Seconds since 1970; None means now.
        expires: Seconds since 1970 at which the template is erased; None for never.
        metadata: Metadata of the template; empty for none.
    """

    embedding: NDArray[np.float32]
    source: bytes
    norm: float | None = None
    quality: float | None = None
    crop: bytes | None = None
    created: float | None = None
    expires: float | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TemplateName:
    """The form of the names of subjects that are named after their only template.

    Attributes:
        beginning: Text with which all such names begin.
        name_of: Returns the name for the source of a template.
    """

    beginning: str
    name_of: Callable[[bytes], str]

    def names(self, name: str, source: bytes) -> bool:
        """Return whether a name is that of a template, maybe with a number because another subject had the name."""
        own = self.name_of(source)
        return name == own or (name.startswith(own) and _NUMBERED.fullmatch(name, len(own)) is not None)


@dataclass(frozen=True, slots=True)
class OwnedTemplate:
    """A stored template and its subject.

    Attributes:
        key: Key of the template.
        source: SHA-256 of what it was made from, unique in the gallery.
        subject_key, subject: Key and name of its subject.
        created: Seconds since 1970.
        quality: 0 to 100, as it was stored; None if unknown.
    """

    key: int
    source: bytes
    subject_key: int
    subject: str
    created: float
    quality: float | None

    @property
    def is_measured(self) -> bool:
        """Whether the error rates of a calibration hold for the face."""
        return is_measured(self.quality)


@dataclass(frozen=True, slots=True)
class TemplateCandidate:
    """A template that resembles a probe, with its similarity: the cosine in [-1, 1]."""

    template: OwnedTemplate
    similarity: float


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The outcome of storing a template.

    Attributes:
        outcome: `enrolled`; `duplicate`: the subject already has this source; `refused`: another subject has it;
            `full`: the subject has as many templates as allowed.
        template: Key of the stored template; 0 if none is stored.
        subject: Name of the subject that already has the source; empty if the template is new.
    """

    outcome: Outcome
    template: int
    subject: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A contiguous set of templates, sorted by key.

    Attributes:
        template_keys, subject_keys: (N,) int64.
        vectors: (N, D) float32.
    """

    template_keys: NDArray[np.int64]
    subject_keys: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def where(self, chosen: NDArray[np.bool_]) -> "Block":
        """Return the templates selected by an (N,) mask."""
        return Block(self.template_keys[chosen], self.subject_keys[chosen], self.vectors[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSet:
    """All templates of one subject.

    Attributes:
        vectors: (N, D) float32 of length 1.
        weights: (N,) weights for quality-weighted fusion: the norms if every template has one (AdaFace), otherwise the
            quality scores if every template has one, otherwise equal weights; 0 for those that are not measured,
            unless none is.
        measured: (N,) whether the error rates of a calibration hold for each face (`is_measured`).
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    measured: NDArray[np.bool_]

    @classmethod
    def of(cls, embedding: NDArray[np.float32]) -> "TemplateSet":
        """Return a set of one embedding, (D,) float32 of length 1."""
        return cls(embedding[None], np.ones(1, np.float32), np.ones(1, np.bool_))

    def where(self, chosen: NDArray[np.bool_]) -> "TemplateSet":
        """Return the templates selected by an (N,) mask."""
        return TemplateSet(self.vectors[chosen], self.weights[chosen], self.measured[chosen])


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure that does not identify the subject.

    Attributes:
        erasure: Number of the erasure.
        what: Kind of the erased record.
        subject_count, template_count, crop_count: Number of erased records of each kind.
        erased: Seconds since 1970.
        log_cut: Whether the store's write-ahead log was truncated. If a reader or a full disk prevented it, the log is
            truncated later in the background.
    """

    erasure: int
    what: Literal["gallery", "subject", "template"]
    subject_count: int
    template_count: int
    crop_count: int
    erased: float
    log_cut: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject that resembles a probe.

    Attributes:
        gallery, subject: Names.
        key: Key of the subject.
        similarity: Cosine in [-1, 1], fused over the subject's templates.
    """

    gallery: str
    subject: str
    key: int
    similarity: float


def is_deep(metadata: object) -> bool:
    """Return whether objects and lists are nested deeper than `MAX_METADATA_DEPTH`."""
    level: list[object] = [metadata]
    for _ in range(MAX_METADATA_DEPTH + 1):
        level = [
            entry
            for value in level
            if isinstance(value, dict | list)
            for entry in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True
