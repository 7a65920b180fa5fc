import pytest

from models.photo_folders.system_names import is_system_name

SYSTEM = [
    *(
        ".DS_Store",
        "._1.jpg",
        ".thumbnails",
        ".Trash-1000",
        ".@__thumb",
        ".picasaoriginals",
        ".stfolder",
        ".git",
        ":2eDS",
    ),
    *(
        "@eaDir",
        "@EADIR",
        "#recycle",
        "#snapshot",
        "@Recycle",
        "@Recently-Snapshot",
        "~snapshot",
        "Network Trash Folder",
    ),
    *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "FOUND.000", "THUMBS.DB", "desktop.ini"),
    *("__MACOSX", "Icon\r", "lost+found", "LOST.DIR", "ehthumbs.db", "_gsdata_", "files_trashbin", "CaptureOne"),
    *("Lightroom Previews.lrdata", "Photos Library.photoslibrary", "MVI_0001.THM", "~$list.docx", "1.jpg@SynoEAStream"),
]
OF_PEOPLE = [
    "ann",
    "@ann",
    "#1",
    "$ann",
    "_ann",
    "~ann",
    "Ann B.",
    "found",
    "Thumbs",
    "recycle",
    "eaDir",
    "1.jpg",
    "d.b",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_a_name_of_a_system_is_known_in_any_case(name: str) -> None:
    assert is_system_name(name)


@pytest.mark.parametrize("name", OF_PEOPLE)
def test_a_name_that_a_user_may_give_is_not_taken_for_one_of_a_system(name: str) -> None:
    assert not is_system_name(name)
