"""Scopes of keys: what a key may do, and in which galleries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from service.errors import GalleryUnknown, ScopeMissing
from service.gallery.names import lookup_name

Scope = Literal["detect", "embed", "verify", "identify", "enrol", "read", "erase", "export", "metrics", "admin"]
"""What a key may do. `admin` includes all others. A key of any scope may read `/v1/info` and what it may do."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "*"
"""Last character of a binding that stands for all galleries whose names begin with what precedes it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    Attributes:
        scopes: The scopes.
        galleries: Names of galleries, or beginnings of names that end with `*`; None for all galleries.
    """

    scopes: frozenset[Scope]
    galleries: tuple[str, ...] | None = None

    def allows(self, scope: Scope) -> bool:
        """Return whether a scope is granted."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Refuse what is not granted.

        Raises:
            ScopeMissing: The scope is not granted.
        """
        if not self.allows(scope):
            raise ScopeMissing(f"this key does not have the scope {scope}")

    def reaches(self, gallery: str) -> bool:
        """Return whether a gallery is granted, in the spelling in which galleries are looked up."""
        if self.galleries is None:
            return True
        name = lookup_name(gallery)
        return any(name.startswith(bound[:-1]) if bound.endswith(PREFIX) else name == bound for bound in self.galleries)

    def require_galleries(self, galleries: Iterable[str], part: str | None = None) -> None:
        """Refuse galleries that are not granted, exactly as galleries that do not exist.

        Args:
            galleries: Names of the galleries.
            part: Part of the request that names them, if errors state it.

        Raises:
            GalleryUnknown: A gallery is not granted.
        """
        if not all(map(self.reaches, galleries)):
            error = GalleryUnknown("no gallery has this name")
            error.part = part
            raise error


EVERYTHING = Grant(frozenset(SCOPES))
"""The grant of a service that is open, and of an operator on the command line."""


def in_order(scopes: Iterable[Scope]) -> Sequence[Scope]:
    """Return scopes in the order in which they are documented."""
    return sorted(scopes, key=SCOPES.index)
