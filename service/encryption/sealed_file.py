"""Files encrypted in chunks, each of which is authenticated before any of it is used.

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizar, CRYPTO 2015) with AES-256-GCM: the nonce of a
chunk has a random prefix of the file, the number of the chunk and whether it is the last. So a file of which chunks
were exchanged, repeated or cut off is found out.

Layout: a line that names the format, the prefix (7 bytes), and the chunks of 4 MiB, each with its tag (16 bytes).
"""

import io
import os
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import SnapshotUnfit

MAGIC = b"vultus-sealed/1\n"

_CHUNK_BYTES = 2**22
_TAG_BYTES = 16
_PREFIX_BYTES = 7
_HEAD_BYTES = len(MAGIC) + _PREFIX_BYTES


class SealedWriter:
    """Encrypts what is written to a file."""

    def __init__(self, file: BinaryIO, key: AESGCM, context: bytes) -> None:
        """Begin a sealed file.

        Args:
            file: File to write, at its beginning.
            key: A data key that encrypts no other file.
            context: What the file is, which its reader must know.
        """
        self._file = file
        self._key = key
        self._context = context
        self._prefix = os.urandom(_PREFIX_BYTES)
        self._pending = bytearray()
        self._chunks = 0
        file.write(MAGIC + self._prefix)

    def write(self, content: bytes) -> None:
        """Encrypt and write some bytes."""
        self._pending += content
        while len(self._pending) > _CHUNK_BYTES:  # the last chunk is known only at the end
            self._put(bytes(self._pending[:_CHUNK_BYTES]), is_last=False)
            del self._pending[:_CHUNK_BYTES]

    def finish(self) -> None:
        """Write the last chunk."""
        self._put(bytes(self._pending), is_last=True)
        self._pending.clear()

    def _put(self, chunk: bytes, is_last: bool) -> None:
        nonce = _nonce(self._prefix, self._chunks, is_last)
        self._file.write(self._key.encrypt(nonce, chunk, self._context))
        self._chunks += 1


class SealedReader(io.RawIOBase):
    """Reads a sealed file as if it were not encrypted; `io.BufferedReader` adds lines and exact reads."""

    def __init__(self, file: BinaryIO, key: AESGCM, context: bytes) -> None:
        """Open a sealed file.

        Args:
            file: The file.
            key: Data key of the file.
            context: What the file must be.

        Raises:
            SnapshotUnfit: The file is not sealed, or is cut off.
        """
        head = file.read(_HEAD_BYTES)
        if not head.startswith(MAGIC) or len(head) < _HEAD_BYTES:
            raise SnapshotUnfit("the snapshot is not encrypted")
        self._file = file
        self._key = key
        self._context = context
        self._prefix = head[len(MAGIC) :]
        sealed = file.seek(0, io.SEEK_END) - _HEAD_BYTES
        self._chunks = max(1, -(-sealed // (_CHUNK_BYTES + _TAG_BYTES)))
        self._size = sealed - self._chunks * _TAG_BYTES
        self._position = 0
        self._number = -1  # of the decrypted chunk
        self._chunk = b""
        if self._size < 0:
            raise SnapshotUnfit("the snapshot is cut off")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position of the decrypted content."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Decrypt into a buffer, at most to the end of a chunk.

        Raises:
            SnapshotUnfit: The file was altered or cut off.
        """
        if self._position >= self._size:
            return 0
        number, start = divmod(self._position, _CHUNK_BYTES)
        if number != self._number:
            self._chunk = self._decrypted(number)
            self._number = number
        part = self._chunk[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _decrypted(self, number: int) -> bytes:
        self._file.seek(_HEAD_BYTES + number * (_CHUNK_BYTES + _TAG_BYTES))
        sealed = self._file.read(_CHUNK_BYTES + _TAG_BYTES)
        try:
            nonce = _nonce(self._prefix, number, number == self._chunks - 1)
            return self._key.decrypt(nonce, sealed, self._context)
        except InvalidTag as error:
            raise SnapshotUnfit("the snapshot is cut off or was altered") from error


def _nonce(prefix: bytes, number: int, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([is_last])
