"""A process that is killed while it changes keys or erases what has expired loses nothing that it acknowledged."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.gallery.administration import create_gallery, list_subjects
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.expiry import erase_expired
from service.gallery.galleries import Galleries
from service.gallery.templates import store_templates
from service.security.keys.keyring import Keyring
from service.security.keys.store import KeyStore
from tests.conftest import ROOT
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, people, template

_ROTATE = """
import sys
from pathlib import Path
from service.security.keys.store import KeyRequest, KeyStore
keys = KeyStore(Path(sys.argv[1]))
if not keys.list_all():
    keys.create(KeyRequest("door", ["verify"]))
while True:
    key, token = keys.rotate("door", 0)
    print(token.text, flush=True)
"""
_EXPIRE = """
import sys
from pathlib import Path
from service.gallery import expiry
from service.gallery.galleries import Galleries
expiry._AT_ONCE = 3
galleries = Galleries(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
print(0, flush=True)
for part in expiry.erase_expired(galleries, 1e9):
    print(part[-1].receipt.erasure, flush=True)
"""


def killed(program: str, arguments: Sequence[str], after_s: float) -> list[str]:
    """Run a program, kill it some time after its first line, and return the lines that it printed."""
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    first = process.stdout.readline()
    time.sleep(after_s)
    process.kill()
    lines = [first, *process.stdout.read().splitlines(keepends=True)]
    process.stdout.close()
    process.wait()
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.faults)])
def test_an_acknowledged_rotation_survives_a_kill(tmp_path: Path, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    for _ in range(rounds):
        printed = killed(_ROTATE, [str(tmp_path)], rng.uniform(0, 0.2))
        keys = KeyStore(tmp_path)
        live = [key for key in keys.list_all() if key.is_live(time.time())]
        assert len(live) == 1
        keyring = Keyring(keys)
        ids = [token.split("_")[1] for token in printed]
        assert {key.id for key in keys.list_all()} >= set(ids)
        if live[0].id == ids[-1]:  # otherwise the kill came between the last rotation and its acknowledgement
            assert keyring.authenticate(printed[-1]) == live[0]
        keyring.close()
        keys.close()


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.faults)])
def test_what_has_expired_is_erased_whole_whenever_the_process_is_killed(tmp_path: Path, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    directory = tmp_path / "galleries"
    galleries = Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS)
    create_gallery(galleries, "staff")
    expiring = [(f"s{n}", replace(template(vectors[0]), expires=1e9)) for n, vectors in enumerate(people(300, 1))]
    store_templates(galleries, "staff", [*expiring, ("stays", template(people(301, 1)[300][0]))])
    galleries.close()
    for _ in range(rounds):
        printed = killed(_EXPIRE, [str(directory), CONTRACT, str(DIMENSIONS)], rng.uniform(0, 0.1))
        galleries = Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS)
        galleries.wait_idle()
        assert check_consistency(galleries, "staff").faults == []
        assert len(list_subjects(galleries, "staff", "", -1)) <= 301 - int(printed[-1])
        galleries.close()
    galleries = Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS)
    list(erase_expired(galleries, 1e9))
    assert [subject.name for subject in list_subjects(galleries, "staff", "", -1)] == ["stays"]
    assert check_erasure(galleries).faults == []
    galleries.close()
