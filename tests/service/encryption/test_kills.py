"""Kills at any moment of an encryption or a change of the master key: all is as before, or all is done."""

import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from service.encryption.data_keys import peek as peek_data_keys
from service.encryption.source import MasterKeySource
from service.gallery.administration import create_gallery
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import templates_of
from service.gallery.store.encryption_state import peek
from service.gallery.templates import store_templates
from tests.conftest import ROOT
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, encryption_in, people, template

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "12"))
VECTORS = people(800, 1)

_PROGRAM = """
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from service.encryption.source import MasterKeySource
from service.gallery.encrypting import change_master_key, encrypt_galleries
from tests.service.gallery.conftest import encryption_in
root, key, new = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
encryption = replace(encryption_in(root), master_key=MasterKeySource(text=key))
print("ready", flush=True)
store = root / "galleries" / "store.sqlite"
if new:
    change_master_key(store, encryption, MasterKeySource(text=new))
else:
    encrypt_galleries(store, encryption)
print("done", flush=True)
"""


def run(root: Path, key: str, new: str, life_s: float | None) -> tuple[bool, float]:
    """Run the program, kill it after a time, and return whether it was done, and its seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(root), key, new], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    if life_s is not None:
        time.sleep(life_s)
        process.kill()
    done = process.stdout.read() == "done\n"
    process.stdout.close()
    process.wait()
    return done, time.monotonic() - began


def fill(root: Path, encrypted_under: str | None) -> None:
    encryption = None
    if encrypted_under is not None:
        encryption = replace(encryption_in(root), master_key=MasterKeySource(text=encrypted_under))
    galleries = Galleries(root / "galleries", CONTRACT, DIMENSIONS, limits=LIMITS, encryption=encryption)
    create_gallery(galleries, "staff", "hnsw")
    store_templates(galleries, "staff", [(str(n), template(vectors[0])) for n, vectors in enumerate(VECTORS)])
    galleries.wait_idle()
    galleries.close()


def require_all(root: Path, key: str | None) -> None:
    encryption = None if key is None else replace(encryption_in(root), master_key=MasterKeySource(text=key))
    galleries = Galleries(root / "galleries", CONTRACT, DIMENSIONS, limits=LIMITS, encryption=encryption)
    galleries.wait_idle()
    for number in (0, 400, 799):
        np.testing.assert_array_equal(templates_of(galleries, "staff", str(number)).vectors, VECTORS[number])
    assert check_consistency(galleries, "staff").faults == []
    assert check_erasure(galleries).faults == []
    galleries.close()


def test_a_kill_while_the_master_key_is_changed_leaves_one_that_opens_all(tmp_path: Path) -> None:
    chance, key = random.Random(3), secrets.token_hex(32)
    fill(tmp_path, key)
    new = secrets.token_hex(32)
    done, whole_s = run(tmp_path, key, new, None)
    assert done
    outcomes: set[bool] = set()
    for number in count():
        if number >= 10 * ROUNDS or (number >= ROUNDS // 2 and outcomes == {True, False}):
            break
        key, new = new, secrets.token_hex(32)
        done, _ = run(tmp_path, key, new, chance.uniform(0, 1.2 * whole_s))
        found = peek_data_keys(encryption_in(tmp_path).data_keys)
        assert found is not None
        changed = found.master_key == MasterKeySource(text=new).read().id
        assert changed or found.master_key == MasterKeySource(text=key).read().id
        assert changed or not done
        outcomes.add(changed)
        if not changed:
            key, new = new, key
        require_all(tmp_path, new)
    assert outcomes == {True, False}


def test_a_kill_while_galleries_are_encrypted_leaves_them_whole(tmp_path: Path) -> None:
    chance, key = random.Random(4), secrets.token_hex(32)
    fill(tmp_path / "before", None)
    root = tmp_path / "now"
    shutil.copytree(tmp_path / "before", root)
    done, whole_s = run(root, key, "", None)
    assert done
    outcomes: set[bool] = set()
    for number in count():
        if number >= 10 * ROUNDS or (number >= ROUNDS // 2 and outcomes == {True, False}):
            break
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "before", root)
        done, _ = run(root, key, "", chance.uniform(0, 1.2 * whole_s))
        state = peek(root / "galleries" / STORE)
        assert state is not None
        assert state.encryption == "aes-256-gcm" or not done
        outcomes.add(state.is_encrypted)
        require_all(root, key if state.is_encrypted else None)
        if not state.is_encrypted:
            assert run(root, key, "", None)[0], "what was cut off can be repeated"
            require_all(root, key)
        content = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
        assert not any(vectors[0].tobytes() in content for vectors in VECTORS)
    assert outcomes == {True, False}
