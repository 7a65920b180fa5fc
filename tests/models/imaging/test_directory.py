import struct

import numpy as np
import pytest

from models.imaging.directory import DirectoryDamaged, Tiff, directories
from tests.tiffs import LONG, SHORT, TiffPage, tiff

PAGE = TiffPage(np.zeros((4, 5, 1), np.uint8), tags={300: (SHORT, [1, 2, 3]), 301: (11, [0.5]), 302: (8, [-7])})


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_reads_values_of_all_types(order: str, big: bool) -> None:
    file = Tiff.read(tiff(PAGE, order=order, big=big))
    (directory,) = directories(file, 10, 100)
    assert directory.numbers(300, 9) == (1, 2, 3)
    assert directory.numbers(300, 2) == (1, 2)
    assert directory.numbers(301, 1) == (0.5,)
    assert directory.number(302, 0) == -7
    assert directory.number(303, 42) == 42
    assert directory.array(300).tolist() == [1, 2, 3]
    assert directory.raw(300) == struct.pack(f"{order}3H", 1, 2, 3)
    assert directory.array(303).size == len(directory.raw(303)) == len(directory.numbers(303, 1)) == 0


@pytest.mark.parametrize("header", [b"MM*\0\0\0\0\x08", b"II\0*\x08\0\0\0"])
def test_reads_a_version_in_the_other_byte_order(header: bytes) -> None:
    assert Tiff.read(header).first == 8


def test_never_reads_values_behind_the_end() -> None:
    encoded = tiff(TiffPage(PAGE.samples, tags={300: (LONG, [1] * 4)}))
    place = encoded.index(struct.pack("<HHI", 300, LONG, 4))
    for count, start in ((2**32 - 1, 8), (4, 2**32 - 1), (2**31, len(encoded) - 5)):
        changed = encoded[: place + 4] + struct.pack("<II", count, start) + encoded[place + 12 :]
        (directory,) = directories(Tiff.read(changed), 10, 100)
        assert len(directory.numbers(300, 2**32)) <= len(encoded) // 4
        assert len(directory.array(300)) <= len(encoded) // 4


def test_stops_after_so_many_directories_and_entries() -> None:
    file = Tiff.read(tiff(*[PAGE] * 30))
    assert len(list(directories(file, 7, 10_000))) == 7
    assert len(list(directories(file, 100, 14 * 5 + 1))) == 5
    assert len(list(directories(file, 100, 10_000))) == 30


def test_reads_a_directory_that_is_cut_off_only_if_asked() -> None:
    encoded = tiff(PAGE)
    file = Tiff.read(encoded[: struct.unpack_from("<I", encoded, 4)[0] + 2 + 3 * 12 + 5])
    with pytest.raises(DirectoryDamaged):
        file.directory(file.first, 100)
    assert set(file.directory(file.first, 100, complete=False).entries) == {256, 257, 258}
