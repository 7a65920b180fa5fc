"""Set files as written by Python 2 and 3 and by numpy 1 and 2, and malicious set files."""

import contextlib
import io
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.alignment import TEMPLATES
from models.errors import SetUnreadable, SetUnsafe
from models.evaluation.acquire.acquisition import Crop, FromCrops
from models.evaluation.sets.bin_file import read_bin

IMAGES = [b"\xff\xd8one", b"\xff\xd8two", b"\xff\xd8\x00three", b"\xff\xd8four\xfe"]


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "faces.bin"
    path.write_bytes(content)
    return path


def images_of(path: Path) -> tuple[list[Any], list[bool]]:
    found = read_bin(path)
    return [picture.source for picture in found.pictures], found.mated.tolist()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bytes", "arrays", "bools of numpy"])
def test_reads_every_protocol_of_python_3(tmp_path: Path, protocol: int, kind: str) -> None:
    images: Any = list(IMAGES)
    labels: Any = [True, False]
    if kind == "arrays":
        images = [np.frombuffer(image, np.uint8).copy() for image in IMAGES]
        labels = np.array([True, False])
    elif kind == "bools of numpy":
        images, labels = tuple(IMAGES), [np.bool_(True), np.int64(0)]
    path = written(tmp_path, pickle.dumps((images, labels), protocol))
    assert images_of(path) == (IMAGES, [True, False])


def python_2(tmp_path: Path) -> Path:
    """Write by hand the pickle that Python 2 writes for ([str, …], [True, False]) with protocol 2."""
    stream = io.BytesIO()
    stream.write(b"\x80\x02](")
    for image in IMAGES:
        stream.write(b"U" + bytes([len(image)]) + image)  # SHORT_BINSTRING
    stream.write(b"e](\x88\x89e\x86.")
    return written(tmp_path, stream.getvalue())


def test_reads_a_file_of_python_2(tmp_path: Path) -> None:
    path = python_2(tmp_path)
    assert "SHORT_BINSTRING" in [opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())]
    assert images_of(path) == (IMAGES, [True, False])


def test_reads_arrays_of_python_2(tmp_path: Path) -> None:
    """The pickle builds each array with the functions of numpy, from byte strings for the dtype and the content."""
    stream = io.BytesIO(b"")
    stream.write(b"\x80\x02](")
    for image in IMAGES:
        size = bytes([len(image)])
        stream.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R")
        stream.write(b"(K\x01K" + size + b"\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R")
        stream.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + size + image + b"tb")
    stream.write(b"e](\x88\x89e\x86.")
    assert images_of(written(tmp_path, stream.getvalue())) == (IMAGES, [True, False])


def test_reads_a_set_of_insightface(shared: Path) -> None:
    found = read_bin(shared / "data" / "small_lfw.bin")
    assert len(found.pictures) == 20
    assert len(found.mated) == 10
    assert found.pictures[0].name == "small_lfw/00000a"
    assert all(isinstance(picture.source, bytes) and picture.source[:2] == b"\xff\xd8" for picture in found.pictures)


def test_images_are_decoded_to_the_pixels_of_the_official_code(shared: Path) -> None:
    """The official code decodes with OpenCV and converts BGR to RGB."""
    pictures = read_bin(shared / "data" / "small_lfw.bin").pictures
    for picture, crop in zip(
        pictures,
        FromCrops(TEMPLATES["arcface-112"]).crops([item.source for item in pictures if isinstance(item.source, bytes)]),
        strict=True,
    ):
        assert isinstance(picture.source, bytes)
        assert isinstance(crop, Crop)
        expected = cv2.imdecode(np.frombuffer(picture.source, np.uint8), cv2.IMREAD_COLOR)
        assert expected is not None
        assert np.array_equal(crop.pixels, expected[..., ::-1])


class Harm:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_with_code_is_refused_and_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for harm, name in (
        (Harm(os.system, f"touch {trace}"), "posix.system"),
        (Harm(eval, "1"), "builtins.eval"),
        (Harm(subprocess.check_call, ["touch", str(trace)]), "subprocess.check_call"),
        (Harm(getattr, "", "join"), "builtins.getattr"),
        (Harm(np.load, str(trace)), "numpy"),
    ):
        for content in ((IMAGES, [harm, False]), ([harm, *IMAGES[1:]], [True, False]), harm):
            path = written(tmp_path, pickle.dumps(content, protocol))
            with pytest.raises(SetUnsafe, match=f"nothing was run|{name}") as refused:
                read_bin(path)
            assert name.rpartition(".")[2] in str(refused.value).replace("__builtin__", "builtins")
    assert not trace.exists()


def test_a_file_cannot_change_the_reader(tmp_path: Path) -> None:
    """BUILD with a slot state could set attributes of a plain function and so change how the next file is read."""
    good = written(tmp_path, pickle.dumps((IMAGES, [True, False]), 2))
    before = images_of(good)
    for name, attribute in (("_codecs encode", "__defaults__"), ("numpy.core.multiarray _reconstruct", "x")):
        module, _, function = name.partition(" ")
        change = f"c{module}\n{function}\n(N}}U".encode() + bytes([len(attribute)]) + attribute.encode() + b"Nstb0"
        evil = tmp_path / "evil.bin"
        evil.write_bytes(b"\x80\x02" + change + pickle.dumps((IMAGES, [True, False]), 2)[2:])
        with pytest.raises((SetUnreadable, SetUnsafe)):
            read_bin(evil)
    assert images_of(written(tmp_path, pickle.dumps((IMAGES, [True, False]), 2))) == before


def test_a_small_file_cannot_use_much_memory(tmp_path: Path) -> None:
    """One text that is encoded many times, at seven bytes each, would grow to a thousand times the size of the file."""
    text = "x" * 100_000
    stream = io.BytesIO()
    stream.write(b"\x80\x02c_codecs\nencode\nq\x00X" + len(text).to_bytes(4, "little") + text.encode() + b"q\x010")
    stream.write(b"0](" + 5000 * b"h\x00h\x01\x85R" + b"e](\x88\x89e\x86.")
    with pytest.raises(SetUnreadable):
        read_bin(written(tmp_path, stream.getvalue()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps(3),
        pickle.dumps((IMAGES, [True])),
        pickle.dumps((IMAGES[:3], [True, False])),
        pickle.dumps((["text", *IMAGES[1:]], [True, False])),
        pickle.dumps((IMAGES, ["yes", "no"])),
        pickle.dumps(([], [])),
        pickle.dumps((IMAGES, {"same": True})),
        pickle.dumps(([np.array(["a"], object), *IMAGES[1:]], [True, False])),
        pickle.dumps(([np.zeros(3, np.float64), *IMAGES[1:]], [True, False])),
        pickle.dumps((IMAGES, [True, False]))[:-9],
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo entry that would allocate gigabytes
    ],
    ids=lambda content: repr(content[:12]),
)
def test_refuses_a_file_that_is_not_a_set(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SetUnreadable, match=r"faces\.bin"):
        read_bin(written(tmp_path, content))


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SetUnreadable, match=r"gone\.bin cannot be read: No such file"):
        read_bin(tmp_path / "gone.bin")


@settings(deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_flipped_byte_raises_no_undocumented_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    content = bytearray(pickle.dumps(([np.frombuffer(image, np.uint8) for image in IMAGES], [True, False]), 2))
    content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / f"flipped-{os.getpid()}.bin"
    path.write_bytes(bytes(content))
    with contextlib.suppress(SetUnreadable, SetUnsafe):
        read_bin(path)


def test_reading_imports_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, pickle.dumps((IMAGES, [Harm(__import__, "this"), False])))
    code = (
        "import sys; from pathlib import Path; from models.evaluation.sets.bin_file import read_bin\n"
        f"try: read_bin(Path({str(path)!r}))\nexcept Exception as error: print(type(error).__name__)\n"
        "print('this' in sys.modules)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["SetUnsafe", "False"]
