"""A process that makes or restores backups until it is killed, and prints what was acknowledged.

    python -m tests.service.backup.killed_process backup|once|restore DIRECTORY [FIRST]

DIRECTORY has the folders `galleries`, `security` and `backups`. People are numbered from FIRST.
"""

import sys
import threading
from pathlib import Path

from service.backup.restoring import restore_backup
from service.backup.writing import make_backup
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from tests.service.backup.conftest import enrol, name, open_galleries, places_in

_LEFT = 20  # people who are not erased yet


def report(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def enrol_and_erase_for_ever(galleries: Galleries, first: int) -> None:
    for number in range(first, first + 9_000):
        enrol(galleries, number)
        report("enrolled", number)
        if number % 3 == 0 and number - first > _LEFT:
            erased = number - _LEFT
            report("erasing", erased)
            erase_subject(galleries, "staff", name(erased))
            report("erased", erased)


def back_up_for_ever(root: Path, first: int) -> None:
    places = places_in(root)
    galleries = open_galleries(places)
    report("ready")
    threading.Thread(target=enrol_and_erase_for_ever, args=(galleries, first), daemon=True).start()
    while True:
        report("begin")
        report("backup", make_backup(places, root / "backups", keep=5).manifest.name)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    of = places_in(where)
    if sys.argv[1] == "backup":
        back_up_for_ever(where, int(sys.argv[3]))
    report("ready")
    if sys.argv[1] == "once":
        make_backup(of, where / "backups")
    else:
        restore_backup(where / "backups", of, lists=[where / "kept.log"])
