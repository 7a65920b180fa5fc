"""A sealed file is read as it was written, or not at all."""

import io

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.encryption import sealed_file
from service.encryption.sealed_file import MAGIC, SealedReader, SealedWriter
from service.errors import SnapshotUnfit

KEY = AESGCM(bytes(range(32)))
CHUNK = 64


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "_CHUNK_BYTES", CHUNK)


def sealed(content: bytes, piece: int = 7) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, KEY, b"it")
    for start in range(0, len(content), piece):
        writer.write(content[start : start + piece])
    writer.finish()
    return file.getvalue()


def opened(content: bytes, context: bytes = b"it", key: AESGCM = KEY) -> bytes:
    return io.BufferedReader(SealedReader(io.BytesIO(content), key, context)).read()


CONTENT = bytes(index * 7 % 256 for index in range(5 * CHUNK))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_what_was_written_is_read(size: int, piece: int) -> None:
    content = sealed(CONTENT[:size], piece)
    assert opened(content) == CONTENT[:size]
    assert content[len(MAGIC) + 7 :].find(CONTENT[: max(8, size // 8)]) < 0


def test_lines_and_positions_are_those_of_the_content() -> None:
    reader = io.BufferedReader(SealedReader(io.BytesIO(sealed(b"one\ntwo\n" + CONTENT)), KEY, b"it"))
    assert reader.readline() == b"one\n"
    assert reader.seek(0, io.SEEK_END) == 8 + len(CONTENT)
    assert reader.read() == b""
    reader.seek(8 + CHUNK)
    assert reader.read(10) == CONTENT[CHUNK : CHUNK + 10]


def test_files_that_were_altered_are_refused() -> None:
    content = sealed(CONTENT[: 3 * CHUNK + 5])
    head, step = len(MAGIC) + 7, CHUNK + 16
    chunks = [content[head:][start : start + step] for start in range(0, len(content) - head, step)]
    altered = {
        "a bit of a chunk": content[:head] + bytes([content[head] ^ 1]) + content[head + 1 :],
        "a bit of the prefix": content[: head - 1] + bytes([content[head - 1] ^ 1]) + content[head:],
        "without the last chunk": content[: -len(chunks[-1])],
        "cut off in a chunk": content[:-1],
        "longer": content + b"x",
        "exchanged chunks": content[:head] + chunks[1] + chunks[0] + b"".join(chunks[2:]),
        "a repeated chunk": content[:head] + chunks[0] + b"".join(chunks),
        "only the head": content[:head],
        "not even the head": content[: head - 3],
        "empty": b"",
        "not sealed": CONTENT,
    }
    for what, changed in altered.items():
        with pytest.raises(SnapshotUnfit):
            opened(changed)
            pytest.fail(what)
    with pytest.raises(SnapshotUnfit):
        opened(content, b"another")
    with pytest.raises(SnapshotUnfit):
        opened(content, key=AESGCM(bytes(32)))
