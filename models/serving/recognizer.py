"""Load a recognizer: the best way to run it that its proof covers and that holds on this processor."""

import logging
from pathlib import Path
from typing import Any

from models.artefact.card import Card
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit
from models.runtime import RuntimeOptions, Session, open_session
from models.runtime.instructions import instruction_set, saturates
from models.serving.choice import ProvenRuntime, proven_runtimes
from models.serving.comparison import comparison_key, has_passed, is_proven_here, keep_passed, require_parity

_log = logging.getLogger("vultus")


def open_recognizer(
    directory: Path, card: Card, proof: dict[str, Any], wanted: RuntimeOptions, comparisons: Path | None
) -> tuple[RuntimeOptions, Session, str]:
    """Load the recognizer of an artefact.

    A runtime whose proof was measured on another instruction set is compared with float32 first. If it differs, the
    next one within the settings is used, and the log says so.

    Args:
        directory: Directory of the artefact.
        card: Card of the artefact.
        proof: Content of its `parity.json`.
        wanted: Requested engine, device and precision.
        comparisons: Directory of the comparisons that passed on this machine; None to compare every time.

    Returns:
        The options in use, the session, and the file name of its graph.

    Raises:
        ArtefactUnfit: The proof covers nothing within the settings, or nothing that it covers holds here.
        EngineError: The engine cannot load the graph.
    """
    *others, last = proven_runtimes(card, proof, wanted)
    for runtime in others:
        try:
            return runtime.options, _open(directory, card, runtime, comparisons), runtime.graph
        except ArtefactUnfit as error:
            _log.warning("passed over: %s", error)
    return last.options, _open(directory, card, last, comparisons), last.graph


def _open(directory: Path, card: Card, runtime: ProvenRuntime, comparisons: Path | None) -> Session:
    """Load a graph, and compare it unless its proof holds here or it was compared before.

    Raises:
        ArtefactUnfit: The embeddings differ by more than the limits of the precision.
    """
    graph, options = runtime.graph, runtime.options
    if options.device == "cpu" and card.source.get("arithmetic") == "int8":
        _refuse_saturation(card, runtime)
    session = open_session(directory / graph, EMBEDDER_OUTPUTS, ((card.height, card.width),), options)
    described = session.describe()
    if is_proven_here(described, runtime.isa, options.device):
        return session
    key = comparison_key(card, graph, described, options.device)
    if not has_passed(comparisons, key):
        rows = require_parity(session, directory, card, graph)
        _log.info(
            "%s in %s on %s was compared with its reference, because its proof was measured on %s: it passed",
            *(card.name, described.precision, described.engine, runtime.isa or "an unknown processor"),
        )
        keep_passed(comparisons, key, rows)
    return session


def _refuse_saturation(card: Card, runtime: ProvenRuntime) -> None:
    """Refuse a network that was quantised by others where its 8-bit sums saturate and no proof was measured.

    Its float32 graph, with which other networks are compared, saturates as well.

    Raises:
        ArtefactUnfit: The proof was measured on another instruction set.
    """
    engine = runtime.options.engine
    assert engine != "auto"  # chosen by `proven_runtimes`
    here = instruction_set(engine)
    if here != runtime.isa and saturates(engine):
        raise ArtefactUnfit(
            f"{card.name} is quantised, and its 8-bit sums saturate on this processor ({here}), unlike on the one of "
            f"its proof ({runtime.isa or 'unknown'}); import it again here"
        )
