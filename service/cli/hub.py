"""Sources of `vultus export` and `vultus import`: a path, or a reference to the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from models.export.hub.checkpoints import fetched_checkpoint
from models.export.hub.choice import Fetched
from models.export.hub.graphs import fetched_graph
from models.hub import Hub, is_reference, parse_reference
from models.text import printable
from service.cli.output import err, progress_bars


def local_checkpoint(source: str) -> Fetched:
    """Return a checkpoint by its path, or fetch it from the Hub."""
    if not is_reference(source):
        return Fetched(Path(source), {})
    reference = parse_reference(source)
    with progress_bars("bytes") as progress:
        fetched = fetched_checkpoint(Hub(progress), reference)
    _show(fetched)
    return fetched


@contextmanager
def local_graph(source: str) -> Iterator[Fetched]:
    """Yield a graph by its path, or fetch it from the Hub until the block ends."""
    if not is_reference(source):
        yield Fetched(Path(source), {})
        return
    reference = parse_reference(source)
    with ExitStack() as held:
        with progress_bars("bytes") as progress:
            fetched = held.enter_context(fetched_graph(Hub(progress), reference))
        _show(fetched)
        yield fetched


def _show(fetched: Fetched) -> None:
    origin = fetched.origin
    line = f"{origin['repository']}: {origin['file']} of commit {origin['commit']}"
    err.print(printable(line), highlight=False, soft_wrap=True, markup=False)
