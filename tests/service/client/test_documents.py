"""The example in the document runs."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_the_documented_example_runs(url: str, photos: Path) -> None:
    section = (ROOT / "service/README.md").read_text().partition("## Python client\n")[2]
    (example,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=photos,
        env={"VULTUS_CLIENT_URL": url, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[:3] == ["match", "(128,) float32", "guest 0 enrolled"]
    assert "astronaut.png ['eileen']" in done.stdout
