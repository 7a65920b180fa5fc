"""`parity.json`, the parity proof of an artefact: measurements by precision and engine, and which of them passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.artefact.form import has_type
from models.artefact.parity import LIMITS, MAX_ACCURACY_LOSS, MAX_FNMR_GROWTH, GraphKind, Parity


@dataclass(frozen=True, slots=True)
class LabelledScore:
    """Accuracy on a labelled set. `fnmr` and `threshold` are None if the set is too small for FMR 1e-3.

    Attributes:
        accuracy: 10-fold accuracy over the pairs, in [0, 1].
        fnmr: False non-match rate of the mated pairs at `threshold`.
        threshold: Similarity threshold of FMR 1e-3 over all pairs of faces of different subjects. The listed
            non-mated pairs are too few: FMR 1e-3 of 3,000 similarities depends on the three highest, which vary more
            than the loss by int8.
    """

    accuracy: float
    fnmr: float | None
    threshold: float | None

    def failures(self, reference: "LabelledScore") -> list[str]:
        """Return which losses exceed the limits; empty if none does."""
        failures = []
        if not self.accuracy >= reference.accuracy - MAX_ACCURACY_LOSS:
            failures.append(
                f"10-fold accuracy {self.accuracy:.4%} is more than 0.1 points below {reference.accuracy:.4%}"
            )
        if self.fnmr is not None and reference.fnmr is not None and not self.fnmr <= reference.fnmr * MAX_FNMR_GROWTH:
            failures.append(f"FNMR at FMR 1e-3 {self.fnmr:.4f} is more than a tenth above {reference.fnmr:.4f}")
        return failures


@dataclass(frozen=True, slots=True)
class ProofRow:
    """The measurement of one precision on one engine.

    Attributes:
        precision: Precision of the graph; bf16 for the float32 graph in bfloat16 arithmetic.
        engine, version: Engine that ran the graph, and its version.
        isa: Instruction set that the engine used, see `models.runtime.instructions`.
        asked: Whether the export requested this precision. A requested precision must pass for the artefact to be
            served.
        parity: Measured parity; None if the engine failed.
        labelled: Scores on the labelled set, if one was given.
        why: Reasons why the measurement failed; empty if it passed.
        exact: Compared with the exact arithmetic of the same int8 graph instead of the source network. Synthetic
            pictures exceed the ranges of faces, so they show only whether an engine computes what the graph says.
    """

    precision: GraphKind
    engine: str
    version: str
    isa: str
    asked: bool
    parity: Parity | None
    labelled: LabelledScore | None
    why: tuple[str, ...]
    exact: bool = False

    @property
    def passed(self) -> bool:
        """Whether this precision passed on this engine."""
        return not self.why

    def record(self) -> dict[str, Any]:
        """Return the record for `parity.json`."""
        return {
            "precision": self.precision,
            "engine": self.engine,
            "version": self.version,
            "isa": self.isa,
            "asked": self.asked,
            "compared_with": "the same graph in exact arithmetic" if self.exact else "the source network",
            **(self.parity.record() if self.parity else {}),
            "labelled": _score_record(self.labelled),
            "passed": self.passed,
            "why": list(self.why),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """The rows of the proof and the reference that they are compared with.

    Attributes:
        reference: Source network: file, SHA-256 and runtime.
        pictures: Description of the faces on which embeddings were compared.
        labelled_set: Name of the labelled set, if one was given.
        labelled_reference: Score of the reference on the labelled set.
        rows: Measurements.
    """

    reference: Mapping[str, str]
    pictures: str
    labelled_set: str | None
    labelled_reference: LabelledScore | None
    rows: tuple[ProofRow, ...]

    @property
    def passed(self) -> bool:
        """Whether at least one precision was requested, and all requested precisions passed."""
        requested = [row for row in self.rows if row.asked]
        return bool(requested) and all(row.passed for row in requested)

    def record(self) -> dict[str, Any]:
        """Return the content of `parity.json`."""
        limits = {
            precision: {name: getattr(limit, name) for name in limit.__slots__ if getattr(limit, name) is not None}
            for precision, limit in LIMITS.items()
        }
        labelled = {"set": self.labelled_set, **(_score_record(self.labelled_reference) or {})}
        return {
            "reference": dict(self.reference),
            "pictures": self.pictures,
            "labelled": labelled if self.labelled_set else None,
            "limits": limits,
            "measured": [row.record() for row in self.rows],
            "passed": self.passed,
        }


def _score_record(score: LabelledScore | None) -> dict[str, Any] | None:
    return None if score is None else {"accuracy": score.accuracy, "fnmr_at_1e-3": score.fnmr}


def has_form(record: Any) -> bool:
    """Return whether the content of a `parity.json` has the members that `proven` and the command line read."""
    if not has_type(record, dict[str, Any]) or not isinstance(record.get("passed"), bool):
        return False
    members = {"precision": str, "engine": str, "passed": bool}
    optional = {"isa": str | None, "why": list[str]}
    rows = record.get("measured", None if record["passed"] else [])
    return isinstance(rows, list) and all(
        isinstance(row, dict)
        and all(has_type(row.get(name), hint) for name, hint in members.items())
        and all(has_type(row[name], hint) for name, hint in optional.items() if name in row)
        and row["precision"] in LIMITS
        for row in rows
    )


def proven(record: Mapping[str, Any]) -> dict[tuple[GraphKind, str], str | None]:
    """Return the measurements that passed, given the content of `parity.json`.

    Returns:
        The instruction set of each measurement by (precision, engine); None in proofs of earlier programs, which do not
        state it.
    """
    return {(row["precision"], row["engine"]): row.get("isa") for row in record["measured"] if row["passed"]}
