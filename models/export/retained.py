"""What the user made for an artefact and does not lose when `--force` replaces it: its calibration and its engines."""

import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

from models.artefact.card import CALIBRATION, CARD, Card, read_card, write_card
from models.artefact.digests import file_digest
from models.graph.weights import weights_file

ENGINE_SUFFIX = ".engine"  # of files that `vultus engine` makes


def retain(old: Path, new: Path, card: Card) -> tuple[Card, list[str]]:
    """Copy into a new artefact what was made for the old one and still fits.

    A calibration fits if both have the same embedding contract; another one is copied beside the old artefact. An
    engine fits if it was built from the same bytes.

    Args:
        old: Artefact that will be replaced, or an empty directory.
        new: Complete artefact that replaces it.
        card: Its card.

    Returns:
        The card of the new artefact, as written, and sentences for the user about what stays and what is removed.

    Raises:
        OSError: A file cannot be copied.
    """
    if not (old / CARD).is_file():
        return card, []
    before, notes = read_card(old, Card), list[str]()
    if (old / CALIBRATION).is_file():
        detector = "any"  # of both, so it makes no difference here
        if before.contract_id(detector) == card.contract_id(detector):
            shutil.copy2(old / CALIBRATION, new / CALIBRATION, follow_symlinks=False)
            notes.append(f"{CALIBRATION} stays, because the new artefact has the embedding contract of the old one")
        else:
            kept = _free_path(old)
            shutil.copy2(old / CALIBRATION, kept)
            notes.append(f"the calibration of the old artefact does not hold for the new one; it is now {kept}")
    fitting = [name for name in before.engines if _fits(name, old, before, card)]
    for name in fitting:
        shutil.copy2(old / name, new / name)
    if fitting:
        engines = {name: before.engines[name] for name in fitting}
        card = replace(card, engines=engines, files={**card.files, **{name: before.files[name] for name in fitting}})
        write_card(new, card)
        notes.append(f"engines of unchanged graphs stay: {', '.join(fitting)}")
    lost = sorted(path.name for path in old.glob(f"*{ENGINE_SUFFIX}") if path.name not in fitting)
    if lost:
        notes.append(f"engines of the old graphs were removed: {', '.join(lost)}; build new ones with: vultus engine")
    return card, notes


def _free_path(old: Path) -> Path:
    names = (old.with_name(f"{old.name}.calibration{number or ''}.json") for number in count())
    return next(name for name in names if not name.exists())


def _fits(engine: str, old: Path, before: Card, after: Card) -> bool:
    graph = before.engines[engine].get("graph", "")
    sources = (graph, weights_file(Path(graph)).name)
    unchanged = graph in after.files and all(before.files.get(name) == after.files.get(name) for name in sources)
    return unchanged and (old / engine).is_file() and file_digest(old / engine) == before.files.get(engine)
