"""`make bench-export`: time and memory of a 100-layer export with parity proof, compared with torch's exporter.

The network has random weights, so that nothing is downloaded. Memory is the sum of the proportional set sizes of the
command and its child processes, sampled 20 times per second.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from models.backbones import iresnet
from tests.checkpoints import save, weights_for

DEPTH = (3, 13, 30, 3)  # r100
TARGET_S, TARGET_SIZES = 90, 4

_PLAIN = """
import sys, torch
from models.backbones import iresnet
network = iresnet.plan({depth}).build().eval()
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
torch.onnx.export(network, (torch.zeros(2, 3, 112, 112),), sys.argv[2], dynamo=True, external_data=False, verbose=False,
                  dynamic_shapes=({{0: torch.export.Dim("N")}},))
"""


class Cost(NamedTuple):
    """The duration and peak memory (MiB) of a command."""

    seconds: float
    megabytes: float


def measure(command: list[str]) -> Cost:
    """Run a command and sample its memory."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, sum(map(_proportional_kilobytes, _tree(process.pid))) / 1024)
        time.sleep(0.05)
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(process.stderr.read().decode()[-2000:])
    return Cost(time.perf_counter() - start, peak)


def _tree(root: int) -> Iterator[int]:
    yield root
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _proportional_kilobytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Measure both exporters and print the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save(weights_for(iresnet.plan(DEPTH)), Path(folder, "r100.pth"))
        size = checkpoint.stat().st_size / 1e6
        vultus = [sys.executable, "-c", "from service.cli.main import main; main()"]
        plain = _PLAIN.format(depth=DEPTH)
        rows = {
            "vultus export, with parity proof": [*vultus, "export", str(checkpoint), "--out", f"{folder}/artefact"],
            "torch.onnx.export alone": [sys.executable, "-c", plain, str(checkpoint), f"{folder}/a.onnx"],
        }
        table = Table(
            "exporter",
            "seconds",
            "peak MB",
            "peak / checkpoint size",
            title=f"export of r100, a checkpoint of {size:.0f} MB, on {os.cpu_count()} cores",
        )
        for name, command in rows.items():
            cost = measure(command)
            peak = cost.megabytes * 1.048576
            table.add_row(name, f"{cost.seconds:.1f}", f"{peak:.0f}", f"{peak / size:.1f}")
        table.add_row("target", f"{TARGET_S}", f"{TARGET_SIZES * size:.0f}", f"{TARGET_SIZES}")
    console.print(table)


if __name__ == "__main__":
    main()
