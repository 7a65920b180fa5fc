"""`model.json`, the card of a detector or a recognizer.

The card holds the SHA-256 of every other file of its directory and a digest of itself, so that every altered byte is
detected.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from models.artefact.digests import value_digest
from models.artefact.form import has_type, is_file_name
from models.artefact.parity import GraphKind
from models.errors import ArtefactUnfit, PackDamaged

CARD, PROOF, CALIBRATION = "model.json", "parity.json", "calibration.json"
EMBEDDER_GRAPH, DETECTOR_GRAPH = "embedder.onnx", "detector.onnx"
GRAPH_FILES: dict[GraphKind, str] = {
    "fp32": EMBEDDER_GRAPH,
    "fp16": "embedder.fp16.onnx",
    "int8": "embedder.int8.onnx",
    "int8-cpu": "embedder.int8-cpu.onnx",
}

CONVERSION = 3
"""Version of the conversion in `models.graph`, increased when a published file is converted to a different graph. Packs
of an earlier conversion must be fetched again."""

_CARD_VERSION = 2


@dataclass(frozen=True, slots=True)
class DetectorCard:
    """Description of a detector.

    Attributes:
        family: Name of the detector head, see `models.detection.heads`.
        licence: Licence of the weights, for display.
        weights: SHA-256 of the published file that the graph was made from.
        conversion: Value of `CONVERSION` in the program that made the graph.
        files: SHA-256 of every other file of the directory, by file name.
    """

    family: str
    licence: str
    weights: str
    conversion: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """Statistics of the feature norm during training (AdaFace, Kim et al., CVPR 2022, arXiv 2204.00964).

    Attributes:
        mean, deviation: Running mean and standard deviation of the norm.
        h: Concentration of the quality indicator.
    """

    mean: float
    deviation: float
    h: float


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a recognizer.

    Attributes:
        name, family, architecture, licence: Descriptive texts, for display.
        weights: SHA-256 that identifies the weights. In a pack it is the SHA-256 of the published file; otherwise it
            covers keys and values, so that the same weights in another file format have the same SHA-256.
        source: File name, SHA-256 and form of the file that the graph was made from. Of a file from the Hugging Face
            Hub also the repository and the commit; its name is the path there.
        program: Version of the program that made the artefact.
        conversion: Value of `CONVERSION` in the program that made the graph.
        height, width: Size of the aligned crop in pixels.
        dimensions: Number of components of an embedding.
        template: Name of the alignment template.
        preprocessing: Preprocessing in the graph: colour order, mean, standard deviation, mirror fusion.
        color_from: Source from which the colour order was determined.
        graphs: File name of the graph, by precision.
        higher_precision: Layers that a graph computes in a higher precision than its own, by file name of the graph.
        weight_bits: Bits of the quantized weights, by file name of the graph.
        norm_statistics: Norm statistics of the training, if the checkpoint contained them.
        engines: TensorRT engines by file name, each with GPU, TensorRT version and source graph.
        layout: `vultus` for the service, `insightface` for insightface's `ArcFaceONNX`.
        files: SHA-256 of every other file of the artefact, by file name.
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
    weight_bits: dict[str, int] = field(default_factory=dict)
    norm_statistics: NormStatistics | None = None
    engines: dict[str, dict[str, str]] = field(default_factory=dict)
    layout: str = "vultus"

    @property
    def single_view_statistics(self) -> NormStatistics | None:
        """Norm statistics of the training, or None with mirror fusion, which has norms of a different scale."""
        return None if self.mirrors else self.norm_statistics

    @property
    def mirrors(self) -> bool:
        """Whether the graph adds the embeddings of the crop and of its mirror image."""
        return bool(self.preprocessing.get("mirror"))

    def contract_id(self, detector_family: str) -> str:
        """Return the id of the embedding contract. Embeddings of different contracts must never be compared.

        The contract includes the detector family, because the alignment depends on the landmarks of the detector.
        """
        terms = [self.weights, self.preprocessing, self.template, detector_family]
        return f"ec1-{value_digest(terms)[:32]}"


AnyCard = TypeVar("AnyCard", Card, DetectorCard)


def write_card(directory: Path, card: Card | DetectorCard) -> None:
    """Write the card atomically. It must be the last file written to the directory."""
    content: dict[str, Any] = {"version": _CARD_VERSION, **asdict(card)}
    content["digest"] = value_digest(content)
    scratch = directory / f".{CARD}+"
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    scratch.replace(directory / CARD)


def read_card(directory: Path, kind: type[AnyCard]) -> AnyCard:
    """Read and verify the card, without the other files.

    Raises:
        PackDamaged: The card is missing, malformed or altered.
        ArtefactUnfit: This program does not support the version of the card.
    """
    place = f"{CARD} in {directory.name}"
    try:
        content = json.loads((directory / CARD).read_text())
        version, digest = content.pop("version"), content.pop("digest")
        intact = digest == value_digest({"version": version, **content})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise PackDamaged(f"{place} is missing or malformed") from error
    if not intact:
        raise PackDamaged(f"{place} was altered")
    if version != _CARD_VERSION:
        raise ArtefactUnfit(f"{place} has version {version}; this program supports version {_CARD_VERSION}")
    try:
        if content.get("norm_statistics"):
            content["norm_statistics"] = NormStatistics(**content["norm_statistics"])
        card = kind(**content)
    except TypeError as error:
        raise PackDamaged(f"{place} has other members than this program expects") from error
    wrong = _wrong_member(card)
    if wrong is not None:
        raise PackDamaged(f"{place} has an invalid value of {wrong}")
    return card


def _wrong_member(card: Card | DetectorCard) -> str | None:
    """Return the name of a member with a value that no export writes, or None if there is none."""
    try:
        wrong = [name for name, hint in get_type_hints(type(card)).items() if not has_type(getattr(card, name), hint)]
    except RecursionError:
        return "a member that is nested too deeply"
    if wrong:
        return wrong[0]
    if not all(map(is_file_name, card.files)):
        return "files"
    if isinstance(card, DetectorCard):
        return None
    statistics = card.norm_statistics
    numbers = [] if statistics is None else [statistics.mean, statistics.deviation, statistics.h]
    if not all(has_type(number, float) and number > 0 for number in numbers):
        return "norm_statistics"
    if not all(map(is_file_name, card.graphs.values())) or "fp32" not in card.graphs:
        return "graphs"
    sizes = {"height": card.height, "width": card.width, "dimensions": card.dimensions}
    return next((name for name, size in sizes.items() if size <= 0), None)
