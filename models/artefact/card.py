"""`model.json`, the card of a detector or a recognizer.

The card holds the SHA-256 of every other file of its directory, and a digest of itself, so any altered byte is found.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from models.artefact.digests import value_digest
from models.errors import ArtefactUnfit, PackDamaged

CARD, PROOF, CALIBRATION = "model.json", "parity.json", "calibration.json"
EMBEDDER_GRAPH, DETECTOR_GRAPH = "embedder.onnx", "detector.onnx"

CONVERSION = 2
"""Version of the conversion in `models.graph`: raised when the same published file becomes another graph. Packs of an
earlier conversion are fetched again."""

_CARD_VERSION = 2


@dataclass(frozen=True, slots=True)
class DetectorCard:
    """What a detector is.

    Attributes:
        family: Name of its head, see `models.detection.heads`.
        licence: For people.
        weights: SHA-256 of the file that the graph was made from, as published.
        conversion: Version of the program's own conversion.
        files: SHA-256 of every other file of the directory by name.
    """

    family: str
    licence: str
    weights: str
    conversion: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """What training saw of the feature norm (AdaFace, Kim et al., CVPR 2022, arXiv 2204.00964).

    Attributes:
        mean, deviation: Running statistics of the norm.
        h: Concentration of the quality indicator.
    """

    mean: float
    deviation: float
    h: float


@dataclass(frozen=True, slots=True)
class Card:
    """What a recognizer is.

    Attributes:
        name, family, architecture, licence: For people.
        weights: SHA-256 that identifies the weights: of the published file in a pack, else over keys and numbers, so
            that the same weights in another wrapper are the same.
        source: File name, SHA-256 and form of what the graph was made from.
        program: Version of the program that made it.
        conversion: Version of the program's own conversion.
        height, width: Size of the aligned crop in pixels.
        dimensions: Length of an embedding.
        template: Name of the alignment template.
        preprocessing: What the graph does to a crop: colour order, mean, standard deviation, mirror fusion.
        color_from: What told the colour order.
        graphs: File name by precision.
        higher_precision: Layers that a graph computes in higher precision than its own, by file name.
        norm_statistics: Of the training, if the checkpoint had them.
        engines: TensorRT engines by file name, with GPU, version and the graph that each was built from.
        layout: `vultus` is what the service serves; `insightface` is for insightface's `ArcFaceONNX`.
        files: SHA-256 of every other file of the artefact by name.
    """

    name: str
    family: str
    architecture: str
    licence: str
    weights: str
    conversion: int
    height: int
    width: int
    dimensions: int
    template: str
    preprocessing: dict[str, Any]
    files: dict[str, str]
    source: dict[str, str] = field(default_factory=dict)
    program: str = ""
    color_from: str = ""
    graphs: dict[str, str] = field(default_factory=lambda: {"fp32": EMBEDDER_GRAPH})
    higher_precision: dict[str, list[str]] = field(default_factory=dict)
    norm_statistics: NormStatistics | None = None
    engines: dict[str, dict[str, str]] = field(default_factory=dict)
    layout: str = "vultus"

    @property
    def single_view_statistics(self) -> NormStatistics | None:
        """Those of training, where they are of what the graph gives: its norm of two views is another one."""
        return None if self.mirrors else self.norm_statistics

    @property
    def mirrors(self) -> bool:
        """Whether the graph embeds the mirror image too, and adds both."""
        return bool(self.preprocessing.get("mirror"))

    def contract_id(self, detector_family: str) -> str:
        """Identify the embedding contract: embeddings of different ids must never be compared.

        The detector's family is part of it because the crop follows its landmarks.
        """
        terms = [self.weights, self.preprocessing, self.template, detector_family]
        return f"ec1-{value_digest(terms)[:32]}"


AnyCard = TypeVar("AnyCard", Card, DetectorCard)


def write_card(directory: Path, card: Card | DetectorCard) -> None:
    """Write the card, whole or not at all; the last file of a directory to be written."""
    content: dict[str, Any] = {"version": _CARD_VERSION, **asdict(card)}
    content["digest"] = value_digest(content)
    scratch = directory / f".{CARD}+"
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    scratch.replace(directory / CARD)


def read_card(directory: Path, kind: type[AnyCard]) -> AnyCard:
    """Read and check the card alone.

    Raises:
        PackDamaged: It is absent or altered.
        ArtefactUnfit: It is of a version that this program does not know.
    """
    place = f"{CARD} in {directory.name}"
    try:
        content = json.loads((directory / CARD).read_text())
        version, digest = content.pop("version"), content.pop("digest")
        intact = digest == value_digest({"version": version, **content})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise PackDamaged(f"{place} is absent or is not a card") from error
    if not intact:
        raise PackDamaged(f"{place} was altered")
    if version != _CARD_VERSION:
        raise ArtefactUnfit(f"{place} is of version {version}; this program reads version {_CARD_VERSION}")
    try:
        if content.get("norm_statistics"):
            content["norm_statistics"] = NormStatistics(**content["norm_statistics"])
        return kind(**content)
    except TypeError as error:
        raise PackDamaged(f"{place} has other members than this program knows") from error
