"""Files of the older records of the audit log, which continue its chain.

The first line of a file has the numbers of its records and the digest before the first one, sealed by the key of the
chain, so that a file whose beginning was cut off, or that was renamed, is found even if the older files are gone.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from models.artefact.directories import sync
from service.audit.records import Record
from service.errors import AuditUnfit, StoreFailed
from service.storage.disk_errors import translated_errors
from service.storage.private_files import open_private

NAME = re.compile(r"audit-([0-9]{12})-([0-9]{12})\.ndjson")
PATTERN = "audit-*.ndjson*"
"""Pattern of the names of these files, also of those that are not complete."""

_PART = ".part"
_NUMBER = re.compile(rb'\{"number":([0-9]{1,18}),')


class Archive(NamedTuple):
    """A file of records.

    Attributes:
        first, last: Numbers of its first and last record.
        path: The file.
    """

    first: int
    last: int
    path: Path


def find_archives(directory: Path) -> list[Archive]:
    """Return the files of a directory, oldest first."""
    named = ((NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(Archive(int(found[1]), int(found[2]), path) for found, path in named if found)


def write_archive(directory: Path, first: int, last: int, before: bytes, records: Iterable[Record], key: bytes) -> None:
    """Write a file, which appears once it is complete and on the disk.

    Args:
        directory: Directory of the log.
        first: Number of the first record.
        last: Number of the last record.
        before: Digest before the first record.
        records: The records.
        key: Key of the chain.

    Raises:
        StorageFull: The disk is full.
        StoreFailed: The file system refused a write.
    """
    path = directory / f"audit-{first:012}-{last:012}.ndjson"
    part = path.with_name(path.name + _PART)
    for stale in directory.glob(f"audit-*{_PART}"):
        stale.unlink()
    try:
        with translated_errors("the audit log"), os.fdopen(open_private(part, os.O_WRONLY), "w") as file:
            file.write(_head(first, last, before, key))
            file.writelines(line_of(record) + "\n" for record in records)
            file.flush()
            sync(part)
            part.rename(path)
            sync(directory)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def digest_before(archive: Archive, key: bytes) -> bytes:
    """Return the digest before the first record of a file.

    Raises:
        AuditUnfit: The first line of the file is not the sealed one of these records.
        StoreFailed: The file system refused a read.
    """
    line = next(_lines(archive.path), "")
    try:
        before = bytes.fromhex(json.loads(line)["before"])
    except (ValueError, KeyError, TypeError, RecursionError):
        before = b""
    if not hmac.compare_digest(line.encode(), _head(archive.first, archive.last, before, key).encode()):
        raise AuditUnfit(f"line 1 of {archive.path.name} was changed, or the file was renamed")
    return before


def records_of(archive: Archive) -> Iterator[Record]:
    """Yield the records of a file.

    Raises:
        AuditUnfit: A line is not a record.
        StoreFailed: The file system refused a read.
    """
    for number, line in enumerate(_lines(archive.path), 1):
        if number > 1:
            yield _parsed(line, f"line {number} of {archive.path.name}")


def records_between(archive: Archive, first: int, last: int) -> list[Record]:
    """Read the records of a file whose numbers are from `first` to `last`, without reading those before them.

    The numbers of a file ascend, so the first of these records is found by bisection.

    Raises:
        AuditUnfit: A line is not a record, or a record is missing.
        StoreFailed: The file system refused a read.
    """
    found: list[Record] = []
    try:
        with archive.path.open("rb") as lines:
            lines.readline()  # the head
            lines.seek(_offset_of(lines, first, archive))
            for line in lines:
                record = _parsed(line.decode("ascii", "replace"), f"a line of {archive.path.name}")
                if record.number > last:
                    break
                found.append(record)
    except OSError as error:
        raise StoreFailed(f"{archive.path.name} cannot be read: {error.strerror}") from error
    numbers = range(max(first, archive.first), min(last, archive.last) + 1)
    if [record.number for record in found] != [*numbers]:
        raise AuditUnfit(f"{archive.path.name} does not have all records from {numbers[0]} to {numbers[-1]}")
    return found


def _offset_of(lines: BinaryIO, number: int, archive: Archive) -> int:
    """Return the offset of the first record with this number or a larger one; the file is read from here on."""
    low, high = lines.tell(), lines.seek(0, os.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        lines.seek(middle - 1)
        lines.readline()  # to the next beginning of a line
        begin, line = lines.tell(), lines.readline()
        found = _NUMBER.match(line)
        if line and found is None:
            raise AuditUnfit(f"a line of {archive.path.name} is not a record of the audit log")
        if found is None or int(found[1]) >= number:
            high = middle
        else:
            low = begin + len(line)
    return low


def line_of(record: Record) -> str:
    """Write a record as one line of JSON."""
    return f'{{"number":{record.number},"record":{record.content},"digest":"{record.digest.hex()}"}}'


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="ascii", errors="replace", newline="\n") as lines:
            yield from lines
    except OSError as error:
        raise StoreFailed(f"{path.name} cannot be read: {error.strerror}") from error


def _parsed(line: str, where: str) -> Record:
    try:
        members = json.loads(line)
        content = json.dumps(members["record"], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        record = Record(int(members["number"]), content, bytes.fromhex(members["digest"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        record = None
    if record is None or line != line_of(record) + "\n":  # another form could mean something else to other programs
        raise AuditUnfit(f"{where} is not a record of the audit log; it was changed or cut off")
    return record


def _head(first: int, last: int, before: bytes, key: bytes) -> str:
    numbers = first.to_bytes(8, "big") + last.to_bytes(8, "big")
    seal = hmac.digest(key, b"archive" + numbers + before, hashlib.sha256)
    return json.dumps({"first": first, "last": last, "before": before.hex(), "seal": seal.hex()}) + "\n"
