"""Reports as files: names, privacy of the files, damage."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import StorageFailed
from service.errors import ReportDamaged, ReportUnknown, StoreFailed
from service.reports import keeping
from service.reports.keeping import keep_report
from service.reports.kept import list_reports, read_report
from service.reports.names import ReportName

RECORD: dict[str, Any] = {"protocol": "pictures", "title": "Zoë's site\n", "figures": [{"value": np.float32("nan")}]}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "reports"


def test_a_report_is_private_and_read_as_it_was_kept(directory: Path) -> None:
    before = datetime.now(UTC)
    name = keep_report(directory, "evaluation", "vultus 1", [RECORD, RECORD])
    assert name.startswith("evaluation-zoe-s-site-2")
    (path,) = directory.iterdir()
    assert path.name == f"{name}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    content = read_report(directory, name)
    assert content == path.read_bytes()
    document = json.loads(content)
    assert (document["kind"], document["program"]) == ("evaluation", "vultus 1")
    assert document["title"] == "Zoë's site\ufffd"  # once, although it was measured twice
    assert document["evaluations"][1]["figures"] == [{"value": None}]  # JSON has no NaN
    assert datetime.fromisoformat(document["written"]) >= before.replace(microsecond=0)
    (outline,) = list_reports(directory, "", 10)
    assert (outline.name, outline.kind, outline.title) == (name, "evaluation", document["title"])
    assert (outline.written, outline.size, outline.damaged) == (document["written"], len(content), None)


def named(directory: Path, second: int, kind: Any = "evaluation", title: str = "x") -> str:
    directory.mkdir(parents=True, exist_ok=True)
    name = ReportName.new(kind, title, datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC))
    (directory / name.file).write_text(f'{{"title": "{title}",\n"evaluations": []}}\n')
    return name.text


def test_reports_are_listed_newest_first_in_pages(directory: Path) -> None:
    assert list_reports(directory, "", 10) == []
    names = [
        named(directory, second, kind) for second, kind in ((3, "evaluation"), (1, "calibration"), (2, "evaluation"))
    ]
    (directory / "notes.txt").touch()
    (directory / "evaluation-x.json").touch()
    newest = [names[0], names[2], names[1]]
    assert [outline.name for outline in list_reports(directory, "", 10)] == newest
    assert [outline.name for outline in list_reports(directory, "", 2)] == newest[:2]
    assert [outline.name for outline in list_reports(directory, newest[1], 2)] == newest[2:]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"title": 7,\n', b'{"title": "a\\u0007",\n', b"\xff" * 9000, b"[" * 100_000, b"[1]\n", b"null"],
)
def test_a_damaged_report_is_a_sentence_and_does_not_hide_the_others(directory: Path, content: bytes) -> None:
    name, other = named(directory, 1), named(directory, 2)
    (directory / f"{name}.json").write_bytes(content)
    whole, damaged = list_reports(directory, "", 10)
    assert (whole.name, whole.title, whole.damaged) == (other, "x", None)
    assert (damaged.name, damaged.title) == (name, None)
    assert damaged.damaged == "the first line of the file was altered or cut off"
    with pytest.raises(ReportDamaged, match="altered or cut off"):
        read_report(directory, name)


def test_a_report_that_is_cut_off_behind_its_first_line_is_damaged(directory: Path) -> None:
    name = keep_report(directory, "calibration", "vultus 1", [RECORD])
    path = directory / f"{name}.json"
    path.write_bytes(path.read_bytes()[:-5])
    assert list_reports(directory, "", 1)[0].damaged is None  # a list reads first lines only
    with pytest.raises(ReportDamaged, match="altered or cut off"):
        read_report(directory, name)


def test_a_file_that_is_too_large_is_neither_kept_nor_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = named(directory, 1)
    os.truncate(directory / f"{name}.json", 2**24 + 1)
    with pytest.raises(ReportDamaged, match="more than 16 MiB"):
        read_report(directory, name)
    monkeypatch.setattr(keeping, "MAX_BYTES", 100)
    with pytest.raises(StorageFailed, match="are kept"):
        keep_report(directory, "evaluation", "vultus 1", [RECORD])


def test_links_pipes_and_directories_are_no_reports(directory: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"title": "secret",\n"evaluations": []}')
    names = [named(directory, second) for second in range(3)]
    for name in names:
        (directory / f"{name}.json").unlink()
    (directory / f"{names[0]}.json").symlink_to(secret)
    os.mkfifo(directory / f"{names[1]}.json")
    (directory / f"{names[2]}.json").mkdir()
    assert list_reports(directory, "", 10) == []
    for name in names:
        with pytest.raises(ReportUnknown):
            read_report(directory, name)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../secret", "evaluation-../x-20260102T030405000Z", "evaluation-x-20260102T030405000Z.json",
     "evaluation-x-20261302T030405000Z", "other-x-20260102T030405000Z", "evaluation-x-20260102T030405000Z\n",
     "evaluation-\u0661-20260102T030405000Z", "/etc/passwd", "evaluation-x-20260102T030405000Z\0"],
)  # fmt: skip
def test_a_text_that_is_no_name_is_unknown(directory: Path, text: str) -> None:
    directory.mkdir(parents=True)
    with pytest.raises(ReportUnknown):
        read_report(directory, text)


@given(title=st.text(max_size=300))
def test_any_title_gives_a_name_that_is_read_back(title: str) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    name = ReportName.new("calibration", title, now)
    assert ReportName.parse(name.text) == name
    assert Path(name.file).name == name.file


def test_a_directory_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be written"):
        keep_report(tmp_path / "file", "evaluation", "vultus 1", [RECORD])
    with pytest.raises(StoreFailed, match="the directory of reports cannot be opened"):
        list_reports(tmp_path / "file", "", 1)
