"""`parity.json`, the parity proof of an artefact: what was measured per precision and engine, and what passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.artefact.parity import LIMITS, MAX_ACCURACY_LOSS, MAX_FNMR_GROWTH, GraphKind, Parity


@dataclass(frozen=True, slots=True)
class LabelledScore:
    """What a labelled set says; the last two are None where it is too small for that rate.

    Attributes:
        accuracy: 10-fold over the pairs, a share in [0, 1].
        fnmr: False non-match rate of the mated pairs at that threshold.
        threshold: Of FMR 1e-3 over all pairs of faces of different subjects, of which there are many more than are
            listed: the three highest of 3,000 similarities move by more than int8 costs.
    """

    accuracy: float
    fnmr: float | None
    threshold: float | None

    def failures(self, reference: "LabelledScore") -> list[str]:
        """Say what was lost beyond what is allowed."""
        why = []
        if not self.accuracy >= reference.accuracy - MAX_ACCURACY_LOSS:
            why.append(f"10-fold accuracy {self.accuracy:.4%} is more than 0.1 points below {reference.accuracy:.4%}")
        if self.fnmr is not None and reference.fnmr is not None and not self.fnmr <= reference.fnmr * MAX_FNMR_GROWTH:
            why.append(f"FNMR at FMR 1e-3 {self.fnmr:.4f} is more than a tenth above {reference.fnmr:.4f}")
        return why


@dataclass(frozen=True, slots=True)
class ProofRow:
    """One precision on one engine.

    Attributes:
        precision: Of the graph, or bf16 for the float32 graph in bfloat16 arithmetic.
        engine, version: What ran it.
        asked: Whether the export was asked for this precision: then it must pass for the artefact to be fit.
        parity: What was measured; None if the engine failed.
        labelled: Scores of the labelled set, if one was given.
        why: In which way it failed; empty if it passed.
    """

    precision: GraphKind
    engine: str
    version: str
    asked: bool
    parity: Parity | None
    labelled: LabelledScore | None
    why: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether this precision on this engine is still the same model."""
        return not self.why

    def record(self) -> dict[str, Any]:
        """Return what is written into the proof."""
        return {
            "precision": self.precision,
            "engine": self.engine,
            "version": self.version,
            "asked": self.asked,
            **(self.parity.record() if self.parity else {}),
            "labelled": _score_record(self.labelled),
            "passed": self.passed,
            "why": list(self.why),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """All rows and what they were measured against."""

    reference: Mapping[str, str]
    pictures: str
    labelled_set: str | None
    labelled_reference: LabelledScore | None
    rows: tuple[ProofRow, ...]

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for is still the same model."""
        asked = [row for row in self.rows if row.asked]
        return bool(asked) and all(row.passed for row in asked)

    def record(self) -> dict[str, Any]:
        """Return what is written as `parity.json`."""
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


def proven(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the (precision, engine) pairs that passed, of the content of `parity.json`."""
    return {(row["precision"], row["engine"]) for row in record["measured"] if row["passed"]}
