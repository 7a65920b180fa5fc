"""Memory of an engine on a busy machine, on which threads of the engine wait for a processor."""

import subprocess
import sys

import pytest

from models.packs import PackStore, find_manifest
from models.runtime import usable_cores

_PROGRAM = """
import sys, threading, time
from pathlib import Path
import numpy as np
from models.detection.detector import DETECTOR_OUTPUTS
from models.runtime import RuntimeOptions, open_session

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

options = RuntimeOptions(engine="openvino", precision="fp32", threads=2, streams=1)
session = open_session(Path(sys.argv[1]), DETECTOR_OUTPUTS, ((384, 384),), options)
image = np.zeros((1, 384, 384, 3), np.uint8)
ends = threading.Event()

def call():
    while not ends.is_set():
        session.run(image)

callers = [threading.Thread(target=call) for _ in range(8)]
for caller in callers:
    caller.start()
time.sleep(3)
before = resident_mb()
time.sleep(12)
print(resident_mb() - before)
ends.set()
for caller in callers:
    caller.join()
"""


@pytest.mark.full
def test_many_callers_on_a_busy_machine_take_no_memory_for_their_runs(store: PackStore) -> None:
    graph = next((store.verify(find_manifest("opencv-zoo")) / "detector").glob("*.onnx"))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * usable_cores())]
    try:
        done = subprocess.run([sys.executable, "-c", _PROGRAM, str(graph)], capture_output=True, text=True, check=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert float(done.stdout) < 3
