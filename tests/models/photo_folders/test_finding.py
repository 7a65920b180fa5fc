"""Directories as they lie on real disks."""

import os
import socket
from pathlib import Path

import pytest

from models.errors import ImageTooManyBytes
from models.photo_folders import finding
from models.photo_folders.finding import find_folders, find_photos
from models.photo_folders.passed_over import Reason
from models.photo_folders.reading import read_head, read_photo
from tests.pictures import faces_png

PHOTO = faces_png(1)


def write(directory: Path, *names: str, content: bytes = PHOTO) -> Path:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def names(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in find_photos(directory).paths]


def test_photos_are_found_by_their_bytes_and_with_any_suffix(tmp_path: Path) -> None:
    write(tmp_path, "b.jfif", "a.jpe", "c/IMG_1", "c/d/photo.backup", "e.JPG")
    assert names(tmp_path) == ["a.jpe", "b.jfif", "c/IMG_1", "c/d/photo.backup", "e.JPG"]
    assert str(find_photos(tmp_path).passed_over) == ""


def test_system_entries_are_passed_over_at_every_depth_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg", "._1.jpg", "Thumbs.db", "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", ".Trash-1000/files/2.jpg")
    write(tmp_path, "a/b/c/2.jpg", "a/b/c/._2.jpg", "a/b/c/#recycle/3.jpg", "a/b/@eaDir/x", "a/__MACOSX/4.jpg")
    found = find_photos(tmp_path)
    assert names(tmp_path) == ["1.jpg", "a/b/c/2.jpg"]
    assert found.passed_over.counts == {Reason.SYSTEM_FOLDER: 5, Reason.SYSTEM_FILE: 3}
    sentence = (
        "passed over: 5 system folders (.Trash-1000, @eaDir, __MACOSX, …), 3 system files (._1.jpg, Thumbs.db, ._2.jpg)"
    )
    assert str(found.passed_over) == sentence


def test_a_directory_that_is_named_by_the_user_is_read_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, ".photos/@eaDir/1.jpg")
    assert names(tmp_path / ".photos/@eaDir") == ["1.jpg"]


def test_files_that_are_no_photos_are_counted_and_damaged_photos_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "notes.txt", "list.csv", "a/1.xmp", "a/clip.mp4", "a/none", content=b"something else")
    write(tmp_path, "a/1.nef", content=b"FUJIFILMCCD-RAW")
    write(tmp_path, "a/damaged.jpg", "a/page.jfif", content=b"<html>")
    write(tmp_path, "a/empty.jpg", "a/empty", content=b"")
    found = find_photos(tmp_path)
    assert names(tmp_path) == ["a/damaged.jpg", "a/empty.jpg", "a/page.jfif"]
    assert found.passed_over.counts == {Reason.NO_PHOTO: 6, Reason.RAW: 1}
    assert "6 files that are no photos (list.csv, notes.txt, a/1.xmp, …), 1 raw file of a camera (a/1.nef)" in str(
        found.passed_over
    )


def test_folders_are_listed_with_their_photos_and_without(tmp_path: Path) -> None:
    write(tmp_path, "ann/1.jpg", "ann/more/2", "bea/notes.txt", "@eaDir/ann/1.jpg", ".hidden/1.jpg", "loose.jpg")
    write(tmp_path, "bea/notes.txt", "list.csv", content=b"text")
    (tmp_path / "cid").mkdir()
    found = find_folders(tmp_path)
    assert {folder: len(paths) for folder, paths in found.photos.items()} == {"ann": 2, "bea": 0, "cid": 0}
    assert found.passed_over.counts == {Reason.SYSTEM_FOLDER: 2, Reason.LOOSE: 1, Reason.NO_PHOTO: 2}


def test_links_to_files_and_to_the_folder_of_a_person_are_followed_and_others_counted(tmp_path: Path) -> None:
    pool = write(tmp_path / "pool", "ann/1.jpg", "x/2.jpg")
    people = tmp_path / "people"
    write(people, "bea/1.jpg")
    (people / "ann").symlink_to(pool / "ann")
    (people / "bea/linked").symlink_to(pool / "x")
    (people / "bea/2").symlink_to(pool / "x/2.jpg")
    (people / "bea/gone.jpg").symlink_to(pool / "gone.jpg")
    found = find_folders(people)
    assert [path.name for path in found.photos["bea"]] == ["1.jpg", "2"]
    assert [path.name for path in found.photos["ann"]] == ["1.jpg"]
    assert found.passed_over.counts == {Reason.LINK: 1, Reason.BROKEN_LINK: 1}


def test_loops_of_links_end(tmp_path: Path) -> None:
    people = write(tmp_path / "people", "ann/1.jpg")
    (people / "all").symlink_to(people)
    (people / "above").symlink_to(tmp_path)
    (people / "self").symlink_to(people / "self")
    (people / "ann/up").symlink_to(people)
    (people / "ann/self.jpg").symlink_to(people / "ann/self.jpg")
    found = find_folders(people)
    assert list(found.photos) == ["ann"]
    assert len(found.photos["ann"]) == 1
    assert found.passed_over.counts == {Reason.LINK: 3, Reason.UNREADABLE: 2}


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    write(tmp_path, "ann/1.jpg")
    os.mkfifo(tmp_path / "ann/pipe.jpg")
    os.mkfifo(tmp_path / "ann/pipe")
    (tmp_path / "ann/zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "ann/s"))
        found = find_photos(tmp_path)
    assert names(tmp_path) == ["ann/1.jpg"]
    assert found.passed_over.counts == {Reason.SPECIAL: 4}
    for name in ("ann/pipe", "ann/zero.jpg"):
        with pytest.raises(ValueError, match="a pipe, a socket or a device"):
            read_photo(tmp_path / name, 100)
    with pytest.raises(IsADirectoryError):
        read_photo(tmp_path / "ann", 100)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.jpg"
    path.write_bytes(b"abc")
    assert read_photo(path, 3) == b"abc"
    os.truncate(path, 2**40)  # a tebibyte without blocks
    with pytest.raises(ImageTooManyBytes, match="the image has 1099511627776 bytes; at most 3 are accepted"):
        read_photo(path, 3)


def test_what_cannot_be_read_is_counted_and_the_rest_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "ann/1.jpg", "ann/locked/2.jpg", "ann/unknown", "bea/1.jpg")
    scandir = os.scandir

    def guarded_scan(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    def guarded_read(path: Path) -> bytes:
        if path.name == "unknown":
            raise PermissionError(13, "Permission denied")
        return read_head(path)

    monkeypatch.setattr(os, "scandir", guarded_scan)
    monkeypatch.setattr(finding, "read_head", guarded_read)
    found = find_folders(tmp_path)
    assert [len(paths) for paths in found.photos.values()] == [1, 1]
    assert found.passed_over.unreadable == 2
    assert "2 files or folders that cannot be read (ann/unknown, ann/locked)" in str(found.passed_over)
    with pytest.raises(PermissionError):
        find_photos(tmp_path / "ann/locked")


def test_names_in_any_encoding_are_found_and_printable(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Zo\xeb")
    folder.mkdir()
    for name in (b"\xe9.jpg", b"\x1b[31m", b"notes \xff.txt"):
        (folder / os.fsdecode(name)).write_bytes(b"text" if name.endswith(b"txt") else PHOTO)
    found = find_folders(tmp_path)
    ((_, paths),) = found.photos.items()
    assert len(paths) == 2
    assert str(found.passed_over).isprintable()


def test_a_deep_tree_is_walked_to_its_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "1.jpg").write_bytes(PHOTO)
    assert len(find_photos(tmp_path).paths) == 1
