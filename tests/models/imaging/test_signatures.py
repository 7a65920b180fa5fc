import pytest
from PIL import Image

from models.errors import ImageEncodingUnsupported, ImageUnreadable
from models.imaging import Photo
from models.imaging.signatures import format_of, jpeg_process
from tests.pictures import encode


@pytest.mark.parametrize(
    ("encoded", "name"),
    [
        (b"%PDF-1.7", "a PDF"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x18ftypcrx ", "a raw photo"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (bytes(128) + b"DICM\2", "DICOM"),
        (b"<!DOCTYPE html>", "HTML"),
    ],
)
def test_an_error_names_a_known_format(encoded: bytes, name: str) -> None:
    with pytest.raises(ImageUnreadable, match=f"the bytes are {name}.*, which is not a supported format .JPEG, PNG"):
        Photo(encoded + bytes(100))
    assert format_of(b"words") is None


@pytest.mark.parametrize(
    ("frame", "bits", "components", "words"),
    [
        (0xC0, 12, 3, "of 12 bits"),
        (0xC1, 16, 1, "of 16 bits"),
        (0xC3, 8, 3, "lossless"),
        (0xC5, 8, 3, "hierarchical"),
        (0xF7, 8, 3, "JPEG-LS"),
    ],
)
def test_an_error_names_a_kind_of_jpeg_that_is_not_read(frame: int, bits: int, components: int, words: str) -> None:
    encoded = bytearray(encode(Image.new("RGB" if components == 3 else "L", (64, 64)), "JPEG"))
    place = encoded.index(b"\xff\xc0")
    encoded[place + 1], encoded[place + 4] = frame, bits
    assert jpeg_process(bytes(encoded)) == words
    with pytest.raises(ImageEncodingUnsupported, match=f"the JPEG image is {words}, which is not supported"):
        Photo(bytes(encoded)).raster()


def test_an_error_names_a_form_of_bmp_that_is_not_read() -> None:
    encoded = bytearray(encode(Image.new("RGB", (64, 64)), "BMP"))
    encoded[30] = 5  # a PNG inside
    with pytest.raises(ImageEncodingUnsupported, match="Unsupported BMP compression"):
        Photo(bytes(encoded))


def test_an_ordinary_jpeg_is_of_no_special_kind() -> None:
    encoded = encode(Image.new("RGB", (64, 64)), "JPEG")
    assert jpeg_process(encoded) is None
    assert all(jpeg_process(encoded[:end]) is None for end in range(0, len(encoded), 7))
