"""The guard of the service: who sends a request, and what that permits."""

from dataclasses import dataclass
from typing import Literal

from service.errors import KeyMissing, KeyWrong
from service.security.keys.keyring import Keyring, SigningKey
from service.security.keys.store import Key
from service.security.scopes import EVERYTHING, Grant

OpenTo = Literal["nobody", "loopback", "everybody"]


@dataclass(frozen=True, slots=True)
class Access:
    """What a request may do.

    Attributes:
        grant: Its scopes and galleries.
        key: Its key; None if the service is open to it.
    """

    grant: Grant
    key: Key | None = None


_OPEN = Access(EVERYTHING)


class Guard:
    """Admits requests by their keys. For use on one thread."""

    def __init__(self, keyring: Keyring | None, open_to: OpenTo) -> None:
        """Guard a service.

        Args:
            keyring: The keys; None if the service has none, so that only those can use it to whom it is open.
            open_to: Who may do everything without a key: `loopback` are programs on this machine, until the first key
                is made.
        """
        self._keyring = keyring
        self._open_to = open_to

    def admit(self, token: str | None, from_loopback: bool) -> Access:
        """Return what a request may do.

        Args:
            token: The key that the request has sent, if any.
            from_loopback: Whether a program on this machine has sent it.

        Raises:
            KeyMissing: The request needs a key.
            KeyMalformed: The key does not have the form of a key.
            KeyWrong: No such key was made.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        if self._open_to == "everybody":
            return _OPEN
        if token is not None and self._keyring is not None:
            key = self._keyring.authenticate(token)
            return Access(key.grant, key)
        is_first = self._keyring is None or self._keyring.is_empty
        if token is None and self._open_to == "loopback" and from_loopback and is_first:
            return _OPEN
        raise KeyMissing("send a key, as `Authorization: Bearer <key>` or as `X-Api-Key: <key>`")

    def admit_uuid(self, text: str) -> Access:
        """Return what a request with a key of CompreFace's protocol may do.

        Raises:
            KeyMalformed: The key is not a UUID.
            KeyWrong: No such key was made.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        key = self._require_keyring().authenticate_uuid(text)
        return Access(key.grant, key)

    def signing_key(self, access_key_id: str) -> SigningKey:
        """Return the key with which a request was signed, if its signature is right.

        Raises:
            KeyMalformed: The text is not the id of an access key.
            KeyWrong: No such key was made, or it is no longer valid.
            StoreFailed: The file system refused a read.
        """
        return self._require_keyring().signing_key(access_key_id)

    def admit_signed(self, key: Key) -> Access:
        """Return what a request may do whose signature was verified."""
        self._require_keyring().note_use(key)
        return Access(key.grant, key)

    def _require_keyring(self) -> Keyring:
        if self._keyring is None:
            raise KeyWrong("this service has no keys")
        return self._keyring

    def recheck(self, access: Access) -> None:
        """Refuse a request that was admitted and has gone on for a while, if it would not be admitted any more.

        Raises:
            KeyMissing: The request has no key, and the first key was made meanwhile.
            KeyRevoked: The key was revoked.
            KeyExpired: The key has expired.
            StoreFailed: The file system refused a read.
        """
        if self._keyring is None or self._open_to == "everybody":
            return
        if access.key is not None:
            self._keyring.require_live(access.key.id)
        elif not self._keyring.is_empty:
            raise KeyMissing("the first key was made meanwhile; send a key")
