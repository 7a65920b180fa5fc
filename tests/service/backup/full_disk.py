"""Make and restore backups on full file systems; print a word for each step.

    python -m tests.service.backup.full_disk DIRECTORY SMALL

DIRECTORY has the folders `galleries`, `security` and `backups`, and SMALL is an empty file system of 1 MB.
"""

import sys
from pathlib import Path

from service.backup.directory import readable
from service.backup.places import Places
from service.backup.restoring import restore_backup
from service.backup.writing import make_backup
from service.errors import StorageFull

root, small = Path(sys.argv[1]), Path(sys.argv[2])
places = Places(root / "galleries", root / "security")
written: list[str] = []
try:
    make_backup(places, small / "backups")
except StorageFull as error:
    written.append(error.code)
with readable(small / "backups") as directory:
    written.append(f"{len(directory.names())} backups")
written.append(f"{len(list((small / 'backups').glob('copies*')))} copies")
for block in (small / "backups").rglob("*"):
    if block.is_file():
        block.unlink()
try:
    restore_backup(root / "backups", Places(small / "galleries", small / "security"))
except StorageFull as error:
    written.append(error.code)
written.append(f"{len(list((small / 'galleries').glob('store*')))} stores")
sys.stdout.write("\n".join(written))
