import struct

import pytest

from models.imaging.boxes import find_box, primary_item_properties, read_boxes


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def heif(version: int = 0, wide: int = 0, primary: int = 1) -> bytes:
    """Return a file with two items: the first has the property `ispe`, the second `irot`; `mdat` precedes `meta`."""
    item = ">H" if version == 0 else ">I"
    associations = b""
    for number in (1, 2):
        property_of_it = struct.pack(">H", 0x8000 | number) if wide else struct.pack(">B", 0x80 | number)
        associations += struct.pack(item, number) + b"\1" + property_of_it
    ipma = struct.pack(">BBBBI", version, 0, 0, wide, 2) + associations
    iprp = box(b"iprp", box(b"ipco", box(b"ispe") + box(b"irot", b"\1")) + box(b"ipma", ipma))
    pitm = box(b"pitm", struct.pack(">I", 0) + struct.pack(">H", primary))
    return box(b"ftyp", b"heic") + box(b"mdat", b"irot imir") + box(b"meta", bytes(4) + pitm + iprp)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_reads_the_properties_of_the_primary_item_only(version: int, wide: int) -> None:
    assert primary_item_properties(heif(version, wide, primary=1)) == {b"ispe"}
    assert primary_item_properties(heif(version, wide, primary=2)) == {b"irot"}
    assert primary_item_properties(heif(version, wide, primary=3)) == set()


@pytest.mark.parametrize("encoded", [b"", b"\0\0\0\0meta", box(b"meta"), box(b"meta", bytes(4) + box(b"pitm"))])
def test_a_malformed_file_has_no_properties(encoded: bytes) -> None:
    assert primary_item_properties(encoded) == set()
    for end in range(0, len(heif()), 3):
        assert primary_item_properties(heif()[:end]) <= {b"ispe", b"irot"}


def test_reads_long_boxes_and_the_box_to_the_end() -> None:
    long = struct.pack(">I4sQ", 1, b"long", 19) + b"abc"
    last = struct.pack(">I4s", 0, b"last") + b"xyz"
    assert [tuple(found) for found in read_boxes(long + last)] == [(b"long", b"abc", True), (b"last", b"xyz", True)]
    assert not next(iter(read_boxes(box(b"part", bytes(9))[:-1]))).complete
    assert find_box(box(b"a   ", box(b"b   ", b"here")), b"a   ", b"b   ") == b"here"
    assert find_box(box(b"a   "), b"b   ") is None


def test_reads_a_bounded_number_of_boxes() -> None:
    assert len(list(read_boxes(box(b"free") * 100_000))) == 4096
    assert list(read_boxes(struct.pack(">I4s", 4, b"tiny") + bytes(100))) == []
