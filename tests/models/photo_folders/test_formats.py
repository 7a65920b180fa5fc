import io

import pytest
from PIL import Image, features

from models.imaging import FORMATS
from models.photo_folders.formats import HEAD_BYTES, has_photo_suffix, kind_of
from tests.pictures import encode

MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free"
HEIC = b"\0\0\0\x24ftypmif1\0\0\0\0mif1heicMiHEMiPrmiaf"


@pytest.mark.parametrize("name", [*FORMATS, "MPO", "JPEG2000"])
def test_every_format_that_the_decoder_reads_is_recognised_by_its_bytes(name: str) -> None:
    if name == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this build of Pillow writes no JPEG 2000")
    head = encode(Image.new("RGB", (32, 32), "red"), name)[:HEAD_BYTES]
    assert kind_of(head, "IMG_1") == "photo"


def test_unusual_forms_of_photos_are_recognised() -> None:
    grey = Image.new("L", (20, 20))
    for photo in (
        encode(grey, "TIFF", big_tiff=True),
        b"MM\0*" + encode(grey, "TIFF")[4:],
        b"BM" + encode(grey, "BMP")[2:],
        b"\xff\x4f\xff\x51\0",
        b"\xff\x0a\0",
        HEIC,
    ):
        assert kind_of(photo[:HEAD_BYTES], "IMG_1") == "photo"


OTHERS = [
    *(b"", b"B", b"BMW is a brand of cars, and this is a text about it", b"image,subject\n", b'{"a": 1}', b"%PDF-1.7"),
    *(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>", b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\0\0\0\0AVI LIST", b"PK\3\4"),
    *(b"\0\5\26\7\0\2\0\0Mac OS X", MP4, b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", b"8BPS\0\1", b"\xff\xfea\0b\0"),
]


@pytest.mark.parametrize("content", OTHERS)
def test_other_files_are_not_taken_for_photos(content: bytes) -> None:
    assert kind_of(content, "IMG_1") == "other"


def test_brands_beyond_the_first_box_do_not_count() -> None:
    assert kind_of(MP4 + b"heicavif", "clip.mp4") == "other"


def test_raw_files_of_cameras_are_no_photos_although_they_look_like_tiff() -> None:
    tiff = encode(Image.new("L", (20, 20)), "TIFF")
    assert kind_of(tiff, "IMG_1.NEF") == kind_of(tiff, "a.dng") == kind_of(tiff, "b.ARW") == "raw"
    assert kind_of(tiff, "IMG_1.tif") == kind_of(tiff, "IMG_1") == "photo"
    for head in (
        b"II*\0\x10\0\0\0CR\2\0",
        b"FUJIFILMCCD-RAW 0201",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
        b"IIU\0",
        b"IIRO",
    ):
        assert kind_of(head, "IMG_1") == "raw"


def test_a_raw_suffix_does_not_hide_a_jpeg() -> None:
    stream = io.BytesIO()
    Image.new("L", (20, 20)).save(stream, "JPEG")
    assert kind_of(stream.getvalue(), "IMG_1.dng") == "photo"


def test_suffixes_of_photos_are_known_in_any_case() -> None:
    names = ["a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.Png", "a.tif", "a.heic", "a.hif", "a.avif", "a.jp2", "x.y.webp"]
    assert all(map(has_photo_suffix, names))
    assert not any(map(has_photo_suffix, ["jpg", "IMG_1", "a.jpg.txt", "a.db", "a.mp4", "a.xmp", "a.nef", ""]))
