import os
from pathlib import Path

import numpy as np
import pytest

from models.errors import SetUnreadable, SingleClass
from models.evaluation.sets.ijb import read_galleries, read_images, read_probes, read_template_pairs
from models.evaluation.sets.lfw import photos, read_pairs
from models.evaluation.sets.user_pictures import read_cohorts, read_folders, read_listed, read_pair_list


def file(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_reads_pairs_of_both_kinds(tmp_path: Path) -> None:
    pairs = read_pairs(file(tmp_path / "pairs.txt", "10\t300\nAda_L\t1\t4\nAda_L\t2\tBob_B\t10\n"))
    assert [pair.mated for pair in pairs] == [True, False]
    assert photos(pairs) == [
        "Ada_L/Ada_L_0001.jpg",
        "Ada_L/Ada_L_0002.jpg",
        "Ada_L/Ada_L_0004.jpg",
        "Bob_B/Bob_B_0010.jpg",
    ]


def test_refuses_a_malformed_list_of_pairs(tmp_path: Path) -> None:
    for content, message in (
        ("10\t300\nAda_L\tone\ttwo\n", "line 2"),
        ("10\t300\nAda_L\t1\t2\nBob\n", "line 3"),
        ("\xff\xfe", "cannot be read|does not list both"),
    ):
        with pytest.raises((SetUnreadable, SingleClass), match=message):
            read_pairs(file(tmp_path / "pairs.txt", content))
    with pytest.raises(SetUnreadable, match="cannot be read"):
        read_pairs(tmp_path / "gone.txt")
    with pytest.raises(SingleClass):
        read_pairs(file(tmp_path / "pairs.txt", "10\t300\nAda_L\t1\t4\n"))


def test_a_device_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(SetUnreadable, match="zero cannot be read as CSV: it is a device"):
        read_listed(Path("/dev/zero"), tmp_path)


def test_a_folder_is_a_subject(tmp_path: Path) -> None:
    for name in ("ada/1.jpg", "ada/sub/2.PNG", "bob/1.webp", "ada/notes.txt", ".hidden/1.jpg", "loose.jpg"):
        file(tmp_path / "people" / name, "")
    found = read_folders(tmp_path / "people")
    assert [picture.name for picture in found.pictures] == ["ada/1.jpg", "ada/sub/2.PNG", "bob/1.webp"]
    assert found.subjects == ["ada", "ada", "bob"]
    assert found.numbers().tolist() == [0, 0, 1]
    chosen = found.where(np.array([False, True, True]))
    assert (chosen.subjects, chosen.name) == (["ada", "bob"], "people")
    (tmp_path / "empty").mkdir()
    assert found.notes == (
        "passed over: 1 system folder (.hidden), 1 file that is no photo (ada/notes.txt), "
        "1 photo outside of the folders (loose.jpg)",
    )
    for directory in (tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises(SetUnreadable):
            read_folders(directory)
    file(tmp_path / "thumbnails/ada/@eaDir/1.jpg", "")
    with pytest.raises(SetUnreadable, match=r"no folders with photos.*\(passed over: 1 system folder \(@eaDir\)\)"):
        read_folders(tmp_path / "thumbnails")


def test_a_subject_that_gave_nothing_is_known(tmp_path: Path) -> None:
    for name in ("ada/1.jpg", "bob/1.jpg", "cid/notes.txt", "eve/@eaDir/1.jpg"):
        file(tmp_path / name, "")
    found = read_folders(tmp_path)
    assert found.empty == ("cid", "eve")
    assert found.without(["ada"]) == ["bob", "cid", "eve"]
    assert found.where(np.array([True, False])).without(["ada"]) == ["cid", "eve"]


def test_two_unicode_forms_of_a_name_are_one_subject_and_two_cases_are_two(tmp_path: Path) -> None:
    for name in ("Zo\u00eb/1.jpg", "Zoe\u0308/2.jpg", "ann/1.jpg", "Ann/1.jpg", "bob/1.jpg"):
        file(tmp_path / "people" / name, "")
    found = read_folders(tmp_path / "people")
    assert sorted(found.subjects) == ["Ann", "Zo\u00eb", "Zo\u00eb", "ann", "bob"]
    assert set(found.notes) == {
        "one subject in 2 Unicode forms of the same name: Zo\u00eb",
        "2 subjects whose names differ in case only: Ann, ann",
    }
    listed = read_listed(file(tmp_path / "a.csv", "image,subject\n1.jpg,Zo\u00eb\n2.jpg,Zoe\u0308\n"), tmp_path)
    assert listed.subjects == ["Zo\u00eb"] * 2
    assert listed.notes == ("one subject in 2 Unicode forms of the same name: Zo\u00eb",)
    cohorts = file(tmp_path / "c.csv", "subject,site\nZoe\u0308,north\n")
    assert read_cohorts(cohorts, ["1", "2"], listed.subjects) == {"site": ["north", "north"]}


def test_a_name_that_is_not_utf_8_is_pointed_out(tmp_path: Path) -> None:
    file(tmp_path / os.fsdecode(b"Zo\xeb") / "1.jpg", "")
    (note,) = read_folders(tmp_path).notes
    assert note == "names that are not UTF-8, which galleries refuse; rename them: Zo\ufffd"


def test_reads_lists_of_pictures_and_of_pairs(tmp_path: Path) -> None:
    listed = read_listed(file(tmp_path / "all.csv", "image,subject,more\na.jpg,ada,x\nb.jpg,bob,\n"), tmp_path)
    assert listed.subjects == ["ada", "bob"]
    assert listed.pictures[1].source == tmp_path / "b.jpg"
    pairs = read_pair_list(
        file(tmp_path / "pairs.csv", "first,second,mated\na.jpg,b.jpg,1\nb.jpg,c.jpg,No\na.jpg,c.jpg,false\n"), tmp_path
    )
    assert [picture.name for picture in pairs.pictures] == ["a.jpg", "b.jpg", "c.jpg"]
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.mated.tolist()) == ([0, 1, 0], [1, 2, 2], [1, 0, 0])
    with pytest.raises(SetUnreadable, match=r"line 3 of pairs\.csv: mated is 'perhaps'"):
        read_pair_list(
            file(tmp_path / "pairs.csv", "first,second,mated\na.jpg,b.jpg,1\na.jpg,c.jpg,perhaps\n"), tmp_path
        )
    for content in ("", "image\n", "image,subject\n", "first,second\na,b\n"):
        with pytest.raises(SetUnreadable, match="needs a header line"):
            read_listed(file(tmp_path / "bad.csv", content), tmp_path)
    for content, used in (("image;subject\na.jpg;ada\n", "semicolons"), ("image\tsubject\na.jpg\tada\n", "tabs")):
        with pytest.raises(SetUnreadable, match=f"separated by {used}, not by commas"):
            read_listed(file(tmp_path / "bad.csv", content), tmp_path)
    with pytest.raises(SetUnreadable, match="cannot be read as CSV"):
        read_listed(tmp_path / "gone.csv", tmp_path)


def test_cohorts_are_keyed_by_image_or_by_subject(tmp_path: Path) -> None:
    names, subjects = ["ada/1", "ada/2", "bob/1"], ["ada", "ada", "bob"]
    by_subject = file(tmp_path / "s.csv", "subject,age,site\nada,40,\nbob,50,north\n")
    assert read_cohorts(by_subject, names, subjects) == {
        "age": ["40", "40", "50"],
        "site": [None, None, "north"],
    }
    by_image = file(tmp_path / "i.csv", "image,light\nada/2,dim\n")
    assert read_cohorts(by_image, names, None) == {"light": [None, "dim", None]}
    with pytest.raises(SetUnreadable, match="does not name its subjects"):
        read_cohorts(by_subject, names, None)
    for content, message in (
        ("image\nada/1\n", "at least one more"),
        ("name,age\nada,4\n", "at least one more"),
        ("subject,age\neve,4\n", "lists no subject"),
    ):
        with pytest.raises(SetUnreadable, match=message):
            read_cohorts(file(tmp_path / "bad.csv", content), names, subjects)


def ijb(directory: Path) -> Path:
    meta = directory / "meta"
    file(meta / "ijbc_face_tid_mid.txt", "1.jpg 10 7\n2.jpg 10 7\n3.jpg 11 8\n")
    file(
        meta / "ijbc_name_5pts_score.txt",
        "".join(f"{n}.jpg {' '.join('12.5' for _ in range(10))} 0.9\n" for n in (1, 2, 3)),
    )
    file(meta / "ijbc_template_pair_label.txt", "10 11 0\n10 10 1\n")
    file(meta / "ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID,FILENAME\n10,1,a\n10,1,b\n")
    file(meta / "ijbc_1N_gallery_G2.csv", "TEMPLATE_ID,SUBJECT_ID,FILENAME\n11,2,c\n")
    file(meta / "ijbc_1N_probe_mixed.csv", "TEMPLATE_ID,SUBJECT_ID,FILENAME\n11,1,a\n11,1,d\n")
    return directory


def test_reads_the_official_layout_of_ijb(tmp_path: Path) -> None:
    images = read_images(ijb(tmp_path), "ijbc")
    assert [picture.name for picture in images.pictures] == ["1.jpg", "2.jpg", "3.jpg"]
    assert images.pictures[0].source == tmp_path / "loose_crop" / "1.jpg"
    assert images.pictures[0].landmarks is not None
    assert images.pictures[0].landmarks.shape == (5, 2)
    assert (images.templates.tolist(), images.media.tolist()) == ([10, 10, 11], [7, 7, 8])
    assert images.scores == pytest.approx(0.9)
    pairs = read_template_pairs(tmp_path, "ijbc")
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.mated.tolist()) == ([10, 10], [11, 10], [False, True])
    assert [gallery.templates.tolist() for gallery in read_galleries(tmp_path, "ijbc")] == [[10], [11]]
    assert [part.tolist() for part in read_probes(tmp_path, "ijbc")] == [[11], [1]]


def test_refuses_malformed_lists_of_ijb(tmp_path: Path) -> None:
    ijb(tmp_path)
    with pytest.raises(SetUnreadable, match=r"ijbb_face_tid_mid\.txt cannot be read"):
        read_images(tmp_path, "ijbb")
    file(tmp_path / "meta/ijbc_face_tid_mid.txt", "2.jpg 10 7\n1.jpg 10 7\n3.jpg 11 8\n")
    with pytest.raises(SetUnreadable, match="same images in the same order"):
        read_images(tmp_path, "ijbc")
    file(tmp_path / "meta/ijbc_face_tid_mid.txt", "1.jpg 10\n")
    with pytest.raises(SetUnreadable, match=r"line 1 of ijbc_face_tid_mid\.txt does not have 3 fields"):
        read_images(tmp_path, "ijbc")
    file(tmp_path / "meta/ijbc_face_tid_mid.txt", "1.jpg ten 7\n2.jpg 10 7\n3.jpg 11 8\n")
    with pytest.raises(SetUnreadable, match="not a number"):
        read_images(tmp_path, "ijbc")
    file(tmp_path / "meta/ijbc_template_pair_label.txt", "10 11 0\n10 12 0\n")
    with pytest.raises(SingleClass):
        read_template_pairs(tmp_path, "ijbc")
    for content in ("10 11\n", "a b c\n", ""):
        file(tmp_path / "meta/ijbc_template_pair_label.txt", content)
        with pytest.raises(SetUnreadable, match="two templates and 0 or 1"):
            read_template_pairs(tmp_path, "ijbc")
    file(tmp_path / "meta/ijbc_1N_probe_mixed.csv", "TEMPLATE_ID\n11\n")
    with pytest.raises(SetUnreadable, match="CSV of templates"):
        read_probes(tmp_path, "ijbc")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("image,subject\na.jpg,ann\nb.jpg,\n", "line 3 of set.csv has no subject"),
        ("image,subject\na.jpg,ann\n,bea\n", "line 3 of set.csv has no image"),
        ("image,subject\na.jpg\n", "line 2 of set.csv has no subject"),
        ("image,subject\na.jpg,ann\nb.jpg,ann \n", "line 3 of set.csv: the subject begins or ends with a space"),
    ],
)
def test_rows_without_a_value_are_not_one_subject(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(SetUnreadable, match=sentence):
        read_listed(tmp_path / "set.csv", tmp_path)


def test_a_pair_counts_once_and_contradictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,mated\na,b,1\nb,a,1\na,b,yes\na,c,0\n")
    pairs = read_pair_list(path, tmp_path)
    assert pairs.mated.tolist() == [True, False]
    assert pairs.notes == ("2 rows repeat a pair; each pair counts once",)
    for row, sentence in (
        ("b,a,0", "as mated and as non-mated"),
        ("a,a,1", "same picture twice"),
        ("a,./a,1", "same picture twice"),
        ("b,x/../a,0", "as mated and as non-mated"),
        ("a,,1", "no second"),
    ):
        path.write_text(f"first,second,mated\na,b,1\n{row}\n")
        with pytest.raises(SetUnreadable, match=f"line 3 .*{sentence}"):
            read_pair_list(path, tmp_path)
