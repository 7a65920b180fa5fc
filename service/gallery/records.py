"""What a gallery holds, as plain values."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

IndexKind = Literal["auto", "flat", "flat-fp16", "sq8", "hnsw"]
Fusion = Literal["max", "mean", "quality-weighted"]

Outcome = Literal["enrolled", "duplicate", "refused"]

Metadata = dict[str, Any]

METADATA_MOST = 16384  # characters of it as JSON
LARGEST_NORM = 1e6  # of an embedding; those of real recognizers are below 100


@dataclass(frozen=True, slots=True)
class Gallery:
    """A named set of subjects whose templates were made under one embedding contract.

    Attributes:
        key: Of the row; never used again.
        name: Unique.
        contract_id: Of all its embeddings.
        dimensions: D of them.
        index: How it is searched, as set.
        keep_crops: Whether aligned crops are kept beside templates.
        min_quality: Least quality, 0 to 100, of faces that are enrolled or looked for.
        metadata: The user's own.
        created: Seconds since 1970.
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


@dataclass(frozen=True, slots=True)
class Subject:
    """A person of a gallery.

    Attributes:
        key: Of the row; never used again.
        name: The user's own id of the person, unique in the gallery.
        metadata: The user's own.
        created: Seconds since 1970.
        template_count: Number of its templates.
    """

    key: int
    name: str
    metadata: Metadata
    created: float
    template_count: int


@dataclass(frozen=True, slots=True)
class Template:
    """What is known of a stored embedding, without it."""

    key: int
    norm: float | None
    quality: float | None
    contract_id: str
    source: bytes
    created: float
    has_crop: bool


@dataclass(frozen=True, slots=True, eq=False)
class NewTemplate:
    """An embedding to be stored.

    Attributes:
        embedding: (D,) float32 of length 1.
        source: SHA-256 of what it was made from: an image file, or the embedding itself. The same source is stored
            once in a gallery.
        norm: Length before it was normalised, or None if that is not known.
        quality: 0 … 100, higher is better (ISO/IEC 29794-1), or None.
        crop: The aligned crop as a PNG file, or None.
        created: Seconds since 1970; now if None.
    """

    embedding: NDArray[np.float32]
    source: bytes
    norm: float | None = None
    quality: float | None = None
    crop: bytes | None = None
    created: float | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a new template.

    Attributes:
        outcome: `enrolled`; `duplicate`: this subject has it already; `refused`: another subject has it.
        template: Key of the template that is there.
        subject: Name of the subject that has it.
    """

    outcome: Outcome
    template: int
    subject: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Templates in one piece, in the order of their keys.

    Attributes:
        template_keys, subject_keys: (N,) int64.
        vectors: (N, D) float32.
    """

    template_keys: NDArray[np.int64]
    subject_keys: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def where(self, chosen: NDArray[np.bool_]) -> "Block":
        """Keep the templates that are chosen, (N,)."""
        return Block(self.template_keys[chosen], self.subject_keys[chosen], self.vectors[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSet:
    """All templates of one subject.

    Attributes:
        vectors: (N, D) float32 of length 1.
        weights: (N,) what each weighs where quality counts: its norm if all have one, as AdaFace has it, else its
            quality if all have one, else alike.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, embedding: NDArray[np.float32]) -> "TemplateSet":
        """Take one embedding, (D,) float32 of length 1, for a set."""
        return cls(embedding[None], np.ones(1, np.float32))


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure, without saying whose.

    Attributes:
        erasure: Number of the erasure.
        what: What was erased.
        subject_count, template_count, crop_count: How many were erased.
        erased: Seconds since 1970.
        log_cut: Whether the store's log was cut; if a reader or a full disk was in the way, that follows.
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
    """A subject that a probe resembles.

    Attributes:
        gallery, subject: Names.
        key: Of the subject.
        similarity: Cosine in [-1, 1], fused over its templates.
    """

    gallery: str
    subject: str
    key: int
    similarity: float
