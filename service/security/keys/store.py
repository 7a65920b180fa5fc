"""The store of keys, which a service and commands beside it may open at the same time."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from service.audit.store import FILES as AUDIT_FILES
from service.errors import KeyExists, KeyInvalid, KeyUnknown, ServerSecretUnfit, StoreUnfit
from service.gallery.names import clean_name
from service.security.keys.protocols import CompreFaceService, Protocol, access_key_id, new_token_of
from service.security.keys.rates import parse_rate
from service.security.keys.sealed_secret import open_secret, seal_secret
from service.security.keys.server_secret import SECRET_FILE, read_secret
from service.security.keys.tables import SCHEMA, key_secret, keys
from service.security.keys.tokens import Token, digest_of
from service.security.scopes import PREFIX, Grant, Scope, in_order
from service.storage.disk_errors import translated_errors
from service.storage.private_files import make_private
from service.storage.tables import Tables
from service.times import written_time

STORE = "keys.sqlite"
ADMIN_KEY_FILE = "admin.key"

MAX_CONCURRENCY = 1_000_000
MAX_GALLERIES = 1000  # bindings of a key, each of which is compared at every request

_SECRET_CHECK = b"vultus server secret"


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.

    Attributes:
        id: Public id.
        name: Name that its maker chose; a rotated key and its successor have the same.
        grant: What the key may do.
        rate: Maximum rate of its requests, such as `50/s`; None for no limit.
        concurrency: Maximum number of its requests at the same time; None for no limit.
        created: Seconds since 1970.
        lifetime_s: Seconds for which it was made; None for ever.
        expires, revoked, last_used: Seconds since 1970; None for never.
        digest: HMAC-SHA-256 of the whole key under the server secret, 32 bytes.
        protocol: The protocol that its clients speak; the others do not know it.
        service: The kind of service of a key of CompreFace's protocol; else None.
        sealed_secret: The secret of a key whose clients sign requests, encrypted under the server secret; else None.
    """

    id: str
    name: str
    grant: Grant
    rate: str | None
    concurrency: int | None
    created: float
    lifetime_s: float | None
    expires: float | None
    revoked: float | None
    last_used: float | None
    digest: bytes
    protocol: Protocol = "vultus"
    service: CompreFaceService | None = None
    sealed_secret: bytes | None = None

    def described(self) -> dict[str, Any]:
        """Return what may be shown of the key, with times as ISO 8601."""
        times = {name: getattr(self, name) for name in ("created", "expires", "revoked", "last_used")}
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(in_order(self.grant.scopes)),
            "galleries": None if self.grant.galleries is None else list(self.grant.galleries),
            "rate": self.rate,
            "concurrency": self.concurrency,
            "protocol": self.protocol,
            "service": self.service,
            "access_key_id": access_key_id(self.id) if self.protocol == "rekognition" else None,
            **{name: None if at is None else written_time(at) for name, at in times.items()},
        }

    def is_live(self, now: float) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """The key to make.

    Attributes:
        name: Name by which its maker knows it.
        scopes: What it may do.
        galleries: Names of galleries, or beginnings of names that end with `*`; None for all galleries.
        rate: Maximum rate of its requests, such as `50/s`; None for no limit.
        concurrency: Maximum number of its requests at the same time; None for no limit.
        expires_in_s: Seconds until it expires; None for never.
        protocol: The protocol that its clients speak.
        service: The kind of service of a key of CompreFace's protocol.
    """

    name: str
    scopes: Iterable[Scope]
    galleries: Sequence[str] | None = None
    rate: str | None = None
    concurrency: int | None = None
    expires_in_s: float | None = None
    protocol: Protocol = "vultus"
    service: CompreFaceService | None = None

    def checked(self) -> "KeyRequest":
        """Return the request with names in the form in which they are looked up.

        Raises:
            KeyInvalid: A member has a value that no key may have.
            NameInvalid: The name of the key or of a gallery is invalid.
        """
        scopes = frozenset(self.scopes)
        if not scopes:
            raise KeyInvalid("a key needs at least one scope")
        if self.galleries is not None and "admin" in scopes:
            raise KeyInvalid("the scope admin reaches all galleries, so a key with it cannot be bound to galleries")
        if self.galleries is not None and not 1 <= len(self.galleries) <= MAX_GALLERIES:
            raise KeyInvalid(f"a key can be bound to 1 to {MAX_GALLERIES} galleries")
        if self.concurrency is not None and not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise KeyInvalid(f"the number of concurrent requests must be 1 to {MAX_CONCURRENCY}")
        if self.expires_in_s is not None and not 0 < self.expires_in_s < float("inf"):
            raise KeyInvalid("the key would expire in the past")
        if self.rate is not None:
            parse_rate(self.rate)
        if self.service == "recognition" and (
            self.galleries is None or len(self.galleries) != 1 or self.galleries[0].endswith(PREFIX)
        ):
            raise KeyInvalid("a key of CompreFace's recognition service has exactly one gallery; give its name")
        galleries = None if self.galleries is None else tuple(dict.fromkeys(map(_clean_binding, self.galleries)))
        name = clean_name(self.name, "key")
        return replace(self, name=name, scopes=scopes, galleries=galleries)


Deliver = Callable[[Key, Token], None]


def _keep(_key: Key, _token: Token) -> None:
    """Deliver nothing: the caller gets key and token when they are stored."""


class KeyStore:
    """The stored keys. Thread-safe."""

    def __init__(
        self, directory: Path, secret_file: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the store of a directory, creating it if missing.

        Args:
            directory: Directory of the store and of the audit log, which is made private with all files of both.
            secret_file: File of the server secret; None for one in the directory.
            clock: Returns seconds since 1970.

        Raises:
            ServerSecretUnfit: The server secret is malformed, or it is not the one of the stored keys.
            StoreUnfit: The file is not a store of keys, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreBusy: Another process has locked the store.
            StoreFailed: The file system refused a read or write.
        """
        self._clock = clock
        self.directory = directory
        self._secret_file = secret_file or directory / SECRET_FILE
        with translated_errors(SCHEMA.name):
            make_private(directory, (f"{STORE}*", f"{SECRET_FILE}*", ADMIN_KEY_FILE, *AUDIT_FILES))
            is_lost = not (directory / STORE).exists() and (directory / SECRET_FILE).exists()
        if is_lost:  # to begin anew would open the service to those who need a key
            raise StoreUnfit(
                f"{STORE} is missing although {SECRET_FILE} is beside it; restore it from a backup, or remove "
                f"{SECRET_FILE} to begin without keys"
            )
        self._open()

    def create(self, request: KeyRequest, deliver: Deliver = _keep) -> tuple[Key, Token]:
        """Make a key. Its token is not stored and cannot be shown again.

        Args:
            request: The key to make.
            deliver: Receives key and token before they are stored, so that no key is stored that nobody has.

        Raises:
            KeyInvalid: A member has a value that no key may have.
            NameInvalid: The name of the key or of a gallery is invalid.
            KeyExists: A live key has this name.
        """
        request = request.checked()
        now = self._clock()
        with self._tables.writing() as connection:
            if any(key.name == request.name and key.is_live(now) for key in _read(connection)):
                raise KeyExists("a live key has this name; rotate it, or revoke it first")
            key, token = self._add(connection, request, now)
            deliver(key, token)
        return key, token

    def rotate(self, reference: str, overlap_s: float, deliver: Deliver = _keep) -> tuple[Key, Token]:
        """Make a successor of a live key, which has the same rights, and let the key expire.

        The successor of a key that was made to expire lives as long from now on.

        Args:
            reference: Id of the key, or its name, which stands for its newest live key.
            overlap_s: Seconds for which the key stays valid, at most until its own expiry.
            deliver: As that of `create`.

        Raises:
            KeyUnknown: No live key has this id or name.
        """
        now = self._clock()
        with self._tables.writing() as connection:
            old = max(_live(connection, reference, now), key=lambda key: key.created)
            request = KeyRequest(
                *(old.name, old.grant.scopes, old.grant.galleries, old.rate, old.concurrency, old.lifetime_s),
                *(old.protocol, old.service),
            )
            key, token = self._add(connection, request, now)
            ends = min(now + overlap_s, old.expires or float("inf"))
            if ends != float("inf"):
                connection.execute(update(keys).where(keys.c.id == old.id).values(expires=ends))
            deliver(key, token)
        return key, token

    def revoke(self, reference: str) -> list[Key]:
        """Revoke a key at once, for all processes.

        Args:
            reference: Id of the key, or its name, which stands for all live keys of that name.

        Returns:
            The revoked keys.

        Raises:
            KeyUnknown: No live key has this id or name.
        """
        now = self._clock()
        with self._tables.writing() as connection:
            revoked = _live(connection, reference, now)
            ids = [key.id for key in revoked]
            connection.execute(update(keys).where(keys.c.id.in_(ids)).values(revoked=now))
        return revoked

    def list_all(self) -> list[Key]:
        """Return all keys, also revoked and expired ones, oldest first."""
        with self._tables.reading() as connection:
            return _read(connection)

    def find(self, key_id: str) -> Key:
        """Return a key by its id.

        Raises:
            KeyUnknown: No key has this id.
        """
        for key in self.list_all():
            if key.id == key_id:
                return key
        raise KeyUnknown("no key has this id")

    @property
    def server_secret(self) -> bytes:
        """The server secret, 32 bytes."""
        return self._secret

    def digest(self, token: Token) -> bytes:
        """Return what the store would keep of a key."""
        return digest_of(token, self._secret)

    def secret_of(self, key: Key) -> str:
        """Return the secret of a key whose clients sign requests.

        Raises:
            StoreUnfit: It was altered.
        """
        return open_secret(self._secret, key.id, key.sealed_secret or b"")

    def record_uses(self, used: Mapping[str, float]) -> None:
        """Store when keys were last used, in seconds since 1970; an earlier time changes nothing."""
        with self._tables.writing() as connection:
            for key_id, at in used.items():
                later = or_(keys.c.last_used.is_(None), keys.c.last_used < at)
                connection.execute(update(keys).where(and_(keys.c.id == key_id, later)).values(last_used=at))

    def state(self) -> tuple[int, int]:
        """Return what differs after each change by any process, also after another file took the place of the store.

        Takes microseconds; for one thread.

        Raises:
            StoreUnfit: Another file took the place of the store and is not a store of keys.
            StoreFailed: The store is missing or cannot be read.
        """
        with translated_errors(SCHEMA.name):
            inode = (self.directory / STORE).stat().st_ino
            if inode != self._inode:
                self._reopen()
            cursor = self._watched.cursor()
            try:
                cursor.execute("PRAGMA data_version")
                (version,) = cursor.fetchone() or (0,)
                return self._inode, int(version)
            finally:
                cursor.close()

    def _reopen(self) -> None:
        """Open the file that took the place of the store, such as a restored copy."""
        self._watched.close()
        self._tables.close()
        self._open()

    def _open(self) -> None:
        self._tables = Tables(self.directory / STORE, SCHEMA)
        try:
            self._secret = self._bound_secret()
            self._inode = (self.directory / STORE).stat().st_ino
            self._watched = self._tables.engine.raw_connection()
        except BaseException:
            self._tables.close()
            raise

    def close(self) -> None:
        """Close the store."""
        self._watched.close()
        self._tables.close()

    def _add(self, connection: Connection, request: KeyRequest, now: float) -> tuple[Key, Token]:
        token = new_token_of(request.protocol)
        signs = request.protocol == "rekognition"
        expires = None if request.expires_in_s is None else now + request.expires_in_s
        scopes = list(in_order(request.scopes))
        galleries = None if request.galleries is None else list(request.galleries)
        connection.execute(
            insert(keys).values(
                id=token.id,
                name=request.name,
                digest=self.digest(token),
                scopes=scopes,
                galleries=galleries,
                rate=request.rate,
                concurrency=request.concurrency,
                created=now,
                lifetime_s=request.expires_in_s,
                expires=expires,
                protocol=request.protocol,
                service=request.service,
                sealed_secret=seal_secret(self._secret, token.id, token.text) if signs else None,
            )
        )
        row = connection.execute(select(keys).where(keys.c.id == token.id)).one()
        return _key(row), token

    def _bound_secret(self) -> bytes:
        """Return the server secret, to which a new store is bound; its secret is made if it is missing.

        Raises:
            ServerSecretUnfit: The secret is missing or malformed, or the stored keys were made under another one.
            StoreFailed: The file system refused to read or write the file.
        """
        with self._tables.writing() as connection:
            rows = connection.execute(select(key_secret.c.secret_check)).all()
            secret = read_secret(self._secret_file, make=not rows)
            expected = hmac.digest(secret, _SECRET_CHECK, hashlib.sha256)
            if not rows:
                connection.execute(insert(key_secret).values(secret_check=expected))
            elif len(rows) > 1:
                raise StoreUnfit(f"{STORE} was altered: it is bound to several server secrets")
            elif not hmac.compare_digest(rows[0].secret_check, expected):
                raise ServerSecretUnfit(
                    "the keys were made under another server secret; restore it from a backup: without it, no key is "
                    "valid"
                )
        return secret


def _clean_binding(binding: str) -> str:
    """Return a binding in the form in which galleries are looked up.

    Raises:
        NameInvalid: It is neither the name of a gallery nor the beginning of one.
    """
    if not binding.endswith(PREFIX):
        return clean_name(binding, "gallery")
    beginning = binding.removesuffix(PREFIX)
    return clean_name(beginning, "gallery") + PREFIX if beginning else PREFIX


def _read(connection: Connection) -> list[Key]:
    return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created, keys.c.id))]


def _live(connection: Connection, reference: str, now: float) -> list[Key]:
    """Return the live keys of an id or name, at least one.

    Raises:
        KeyUnknown: There is none.
    """
    found = [key for key in _read(connection) if reference in (key.id, key.name) and key.is_live(now)]
    if not found:
        raise KeyUnknown("no live key has this id or name")
    return found


def _key(row: Row[Any]) -> Key:
    grant = Grant(frozenset(row.scopes), None if row.galleries is None else tuple(row.galleries))
    return Key(
        row.id,
        row.name,
        grant,
        row.rate,
        row.concurrency,
        row.created,
        row.lifetime_s,
        row.expires,
        row.revoked,
        row.last_used,
        row.digest,
        row.protocol,
        row.service,
        row.sealed_secret,
    )
