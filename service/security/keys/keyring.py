"""The keys as the service holds them: read once, read again when any process changes them."""

import hmac
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from models.errors import VultusError
from service.errors import KeyExpired, KeyRevoked, KeyWrong
from service.security.keys.protocols import Protocol, parse_access_key_id, parse_uuid
from service.security.keys.store import Key, KeyStore
from service.security.keys.tokens import Token, new_token, parse_token

_FLUSH_S = 10.0  # within which the last use of a key is stored

_log = logging.getLogger("vultus")


class SigningKey(NamedTuple):
    """A live key whose clients sign requests, and its secret."""

    key: Key
    secret: str


class Keyring:
    """Authenticates keys. For use on one thread, except `close`."""

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.time) -> None:
        """Read the keys.

        Args:
            store: Store of the keys.
            clock: Returns seconds since 1970.

        Raises:
            StoreFailed: The file system refused a read.
        """
        self._store = store
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._unknown = store.digest(new_token())
        self._used: dict[str, float] = {}
        self._using = threading.Lock()
        self._closing = threading.Event()
        self._read_if_changed()
        self._flusher = threading.Thread(target=self._flush_often, name="key-uses", daemon=True)
        self._flusher.start()

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever made."""
        self._read_if_changed()
        return not self._keys

    def authenticate(self, text: str) -> Key:
        """Return the live key of a text, and note its use.

        Unknown ids take the time of known ones, and only who has the whole key learns that it is revoked or expired.

        Raises:
            KeyMalformed: The text does not have the form of a key.
            KeyWrong: No such key was made.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        return self._authenticate(parse_token(text), "vultus")

    def authenticate_uuid(self, text: str) -> Key:
        """Return the live key of CompreFace's protocol of a text like `authenticate`.

        Raises:
            KeyMalformed: The text is not a UUID.
            KeyWrong: No such key was made.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        return self._authenticate(parse_uuid(text), "compreface")

    def signing_key(self, access_key_id: str) -> SigningKey:
        """Return the live key with whose secret a request was signed, if the signature is right; see `note_use`.

        Raises:
            KeyMalformed: The text is not the id of an access key.
            KeyWrong: No such key was made, or it was revoked or has expired, which only who has the secret may learn.
            StoreFailed: The file system refused a read.
        """
        self._read_if_changed()
        key = self._keys.get(parse_access_key_id(access_key_id))
        if key is None or key.protocol != "rekognition" or not key.is_live(self._clock()):
            raise KeyWrong("no such access key was made, or it is no longer valid")
        return SigningKey(key, self._store.secret_of(key))

    def note_use(self, key: Key) -> None:
        """Note that a key was used, so that it is stored."""
        with self._using:
            self._used[key.id] = self._clock()

    def _authenticate(self, token: Token, protocol: Protocol) -> Key:
        self._read_if_changed()
        key = self._keys.get(token.id)
        is_right = hmac.compare_digest(self._store.digest(token), key.digest if key else self._unknown)
        if key is None or not is_right or key.protocol != protocol:
            raise KeyWrong("no such key was made")
        self._require_live(key)
        self.note_use(key)
        return key

    def require_live(self, key_id: str) -> None:
        """Refuse a key that was authenticated and may have ended since, as during a long stream.

        Raises:
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        self._read_if_changed()
        self._require_live(self._keys.get(key_id))

    def close(self) -> None:
        """Store the last uses."""
        self._closing.set()
        self._flusher.join()
        self._flush()

    def _require_live(self, key: Key | None) -> None:
        if key is None or key.revoked is not None:
            raise KeyRevoked("this key was revoked")
        if not key.is_live(self._clock()):
            raise KeyExpired("this key has expired")

    def _read_if_changed(self) -> None:
        state = self._store.state()
        if state != self._seen:
            self._keys = {key.id: key for key in self._store.list_all()}
            self._seen = state

    def _flush_often(self) -> None:
        while not self._closing.wait(_FLUSH_S):
            self._flush()

    def _flush(self) -> None:
        with self._using:
            used, self._used = self._used, {}
        if not used:
            return
        try:
            self._store.record_uses(used)
        except VultusError as error:
            with self._using:
                self._used = used | self._used  # stored with the next ones
            _log.warning("the last use of keys could not be stored yet: %s", error)
