"""Every place in which a format states its orientation, in one table."""

import io
import re
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from models import imaging
from models.imaging.orientation import exif_orientation, xmp_orientation
from tests.models.imaging.pictures import QUARTERS, assert_upright, jp2, stored
from tests.pictures import chunk, encode
from tests.tiffs import TiffPage, tiff

_ADOBE = "http://ns.adobe.com/tiff/1.0/"
_PACKET = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:{0}="' + _ADOBE + '" {1}>{2}</rdf:Description>'
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_APP1_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PREFIX = b"Exif\0\0"


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    value = struct.pack(order + {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}[kind], orientation).ljust(4, b"\0")
    return header + struct.pack(f"{order}HHHI", 1, 0x0112, kind, 1) + value + bytes(4)


def xmp(orientation: int, form: int = 0) -> bytes:
    forms = [
        _PACKET.format("tiff", f'tiff:Orientation="{orientation}"', ""),
        _PACKET.format("tiff", f"tiff:Orientation = '{orientation}'", ""),
        _PACKET.format("tiff", "", f"<tiff:Orientation> {orientation} </tiff:Orientation>"),
        _PACKET.format("t", f't:Orientation="{orientation}"', ""),
    ]
    return forms[form].encode()


def in_jpeg(image: Image.Image, *segments: bytes) -> bytes:
    encoded = encode(image, "JPEG", quality=95)
    markers = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    return encoded[:2] + markers + encoded[2:]


def in_png(image: Image.Image, kind: bytes, content: bytes, after: bool = False) -> bytes:
    encoded = encode(image)
    place = encoded.index(b"IEND" if after else b"IDAT") - 4
    return encoded[:place] + chunk(kind, content) + encoded[place:]


def raw_profile(name: str, profile: bytes) -> bytes:
    digits = profile.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return f"\n{name.lower()}\n{len(profile):8d}\n{lines}\n".encode()


def in_jp2(image: Image.Image, kind: bytes, content: bytes, after: bool = False) -> bytes:
    encoded = jp2(image)
    place = len(encoded) if after else encoded.index(b"jp2c") - 4
    return encoded[:place] + struct.pack(">I4s", 24 + len(content), b"uuid") + kind + content + encoded[place:]


def in_tiff(image: Image.Image, tags: dict[int, tuple[int, list[int]]], deflate: bool = False) -> bytes:
    return tiff(TiffPage(np.asarray(image), photometric=2, tags=tags, deflate=deflate))


def in_mpo(image: Image.Image, orientation: int) -> bytes:
    block, stream = Image.Exif(), io.BytesIO()
    block[0x0112] = orientation
    other = [Image.new("RGB", image.size)]
    image.save(stream, "MPO", save_all=True, append_images=other, exif=block, quality=95)
    return stream.getvalue()


def container(image: Image.Image, name: str, orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return encode(image, name, exif=block, quality=95)


def without_rotation(encoded: bytes) -> bytes:
    return encoded.replace(b"irot", b"free").replace(b"imir", b"free")


Writer = Callable[[Image.Image, int], bytes]

PLACES: dict[str, Writer] = {
    "JPEG, EXIF": lambda image, o: in_jpeg(image, _PREFIX + exif(o)),
    "JPEG, EXIF, big-endian": lambda image, o: in_jpeg(image, _PREFIX + exif(o, ">")),
    "JPEG, EXIF of type LONG": lambda image, o: in_jpeg(image, _PREFIX + exif(o, ">", 4)),
    "JPEG, EXIF of type BYTE": lambda image, o: in_jpeg(image, _PREFIX + exif(o, ">", 1)),
    "JPEG, XMP": lambda image, o: in_jpeg(image, _APP1_XMP + xmp(o)),
    "JPEG, XMP with an invalid EXIF": lambda image, o: in_jpeg(image, _PREFIX + exif(0), _APP1_XMP + xmp(o)),
    "JPEG, EXIF with another XMP": lambda image, o: in_jpeg(image, _APP1_XMP + xmp(o % 8 + 1), _PREFIX + exif(o)),
    "MPO": in_mpo,
    "PNG, eXIf": lambda image, o: in_png(image, b"eXIf", exif(o)),
    "PNG, eXIf after the pixels": lambda image, o: in_png(image, b"eXIf", exif(o, ">"), after=True),
    "PNG, eXIf with a prefix": lambda image, o: in_png(image, b"eXIf", _PREFIX + exif(o)),
    "PNG, raw profile, zTXt": lambda image, o: in_png(
        image, b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile("exif", _PREFIX + exif(o)))
    ),
    "PNG, raw profile, tEXt after the pixels": lambda image, o: in_png(
        image, b"tEXt", b"Raw profile type APP1\0" + raw_profile("APP1", _PREFIX + exif(o, ">")), after=True
    ),
    "PNG, raw profile of XMP": lambda image, o: in_png(
        image, b"tEXt", b"Raw profile type APP1\0" + raw_profile("APP1", _APP1_XMP + xmp(o))
    ),
    "PNG, XMP": lambda image, o: in_png(image, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(o)),
    "PNG, XMP, compressed": lambda image, o: in_png(
        image, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(o)), after=True
    ),
    "WebP, EXIF": lambda image, o: encode(image, "WEBP", lossless=True, exif=_PREFIX + exif(o)),
    "WebP, EXIF without prefix": lambda image, o: encode(image, "WEBP", lossless=True, exif=exif(o, ">")),
    "WebP, XMP": lambda image, o: encode(image, "WEBP", lossless=True, xmp=xmp(o)),
    "TIFF, SHORT": lambda image, o: in_tiff(image, {274: (3, [o])}),
    "TIFF, LONG": lambda image, o: in_tiff(image, {274: (4, [o])}, deflate=True),
    "TIFF, XMP": lambda image, o: in_tiff(image, {700: (1, list(xmp(o)))}),
    "JP2, EXIF": lambda image, o: in_jp2(image, b"JpgTiffExif->JP2", exif(o)),
    "JP2, EXIF after the codestream": lambda image, o: in_jp2(image, b"JpgTiffExif->JP2", exif(o, ">"), after=True),
    "JP2, XMP": lambda image, o: in_jp2(image, _XMP_UUID, xmp(o)),
    "AVIF": lambda image, o: container(image, "AVIF", o),
}
if "HEIF" in imaging.FORMATS:
    PLACES |= {
        "HEIF": lambda image, o: container(image, "HEIF", o),
        "HEIF, EXIF only": lambda image, o: without_rotation(container(image, "HEIF", o)),
        "HEIF, XMP": lambda image, o: encode(image, "HEIF", xmp=xmp(o), quality=95),
    }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("place", PLACES)
def test_undoes_the_orientation_wherever_a_format_states_it(place: str, orientation: int) -> None:
    assert_upright(PLACES[place](stored(orientation), orientation))


def test_an_invalid_orientation_is_none() -> None:
    for value in (0, 9, 255):
        assert_upright(in_jpeg(Image.fromarray(QUARTERS), _PREFIX + exif(value)))
        assert_upright(in_tiff(Image.fromarray(QUARTERS), {274: (3, [value])}))
        assert xmp_orientation(xmp(value)) is None


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", exif(6)[:-9], b"II*\0" + bytes(60)]
)
def test_a_corrupt_exif_block_states_no_orientation(block: bytes) -> None:
    assert exif_orientation(block) is None


@pytest.mark.parametrize("form", range(4))
def test_reads_every_form_of_xmp(form: int) -> None:
    assert xmp_orientation(xmp(6, form)) == 6
    assert xmp_orientation(xmp(6, form).decode().encode("utf-16-le")) == 6


def test_a_packet_costs_time_by_its_length_only() -> None:
    """A prefix from the file was compiled as a pattern, and each repeated EXIF prefix copied the rest."""
    long = b"<x xmlns:" + b"A" * 2**20 + b'="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    names = b"A" * 2**20 + b':Orientation="6"'
    start = time.thread_time()
    assert xmp_orientation(long) is None
    assert xmp_orientation(names) is None
    assert exif_orientation(b"Exif\0\0" * 200_000) is None
    assert time.thread_time() - start < 2
    assert not any(len(str(key)) > 2**16 for key in re._cache)  # type: ignore[attr-defined]  # private, but the point
