"""What the restricted readers of pickles share: a pickle may mention a name, and no name leads to an import."""

import pickletools
from collections.abc import Callable
from typing import IO, Any

from models.errors import VultusError

Refusal = Callable[[str], VultusError]

_LONGEST_NAME = 100


class _Refused(type):
    """The class of what stands for a name that is not known: it may be mentioned, not called."""

    def __call__(cls, *args: Any, **__: Any) -> Any:
        refuse: Any = cls.__new__  # the one that `stand_in` gave it
        return refuse(cls, *args)

    def __setattr__(cls, name: str, value: object) -> None:
        refuse: Any = cls.__new__
        refuse(cls)


class Sealed:
    """A function that a pickle may call and cannot change: of a plain one it could set attributes."""

    __slots__ = ("_work",)
    _work: Callable[..., Any]

    def __init__(self, work: Callable[..., Any]) -> None:
        object.__setattr__(self, "_work", work)

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self._work(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("a change of what is not its own")


class SealedType(type):
    """A class that a pickle may make objects of and cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise ValueError("a change of what is not its own")


def stand_in(name: str, refusal: Refusal) -> type:
    """Make what stands for a name that must not be called; `refusal` makes the error of a call."""
    shown = name.encode("unicode_escape").decode()[:_LONGEST_NAME]  # it is the file's own, and goes into a message

    def new(*_: Any, **__: Any) -> Any:
        raise refusal(shown)

    return _Refused("Refused", (), {"__new__": new, "__slots__": ()})


def has_large_memo(stream: IO[bytes]) -> bool:
    """Tell whether a pickle numbers memo entries as no file of its size needs: a few bytes would take gigabytes."""
    return any(
        opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(number, int) and number > count
        for count, (opcode, number, _) in enumerate(pickletools.genops(stream))
    )
