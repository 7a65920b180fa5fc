"""Building blocks of the restricted unpicklers: a pickle may mention any name, but no name is ever imported."""

import pickletools
import sys
from collections.abc import Callable
from typing import IO, Any

from models.errors import VultusError

ErrorFactory = Callable[[str], VultusError]

_LONGEST_NAME = 100
_MAX_WIDE = 200  # random states hold a few; a key then takes at most this number of comparisons


class _Refused(type):
    """Metaclass of the stand-ins for unknown names: a pickle may mention a stand-in but not call or change it."""

    def __call__(cls, *args: Any, **__: Any) -> Any:
        fail: Any = cls.__new__  # the method that `failing_class` defined
        return fail(cls, *args)

    def __setattr__(cls, name: str, value: object) -> None:
        fail: Any = cls.__new__
        fail(cls)


class Sealed:
    """A function that a pickle may call but not change. A pickle could set attributes of a plain function."""

    __slots__ = ("_work",)
    _work: Callable[..., Any]

    def __init__(self, work: Callable[..., Any]) -> None:
        object.__setattr__(self, "_work", work)

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._work(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("a pickle must not change the objects of this process")


class SealedType(type):
    """Metaclass of the classes that a pickle may instantiate but not change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise ValueError("a pickle must not change the objects of this process")


def failing_class(name: str, make_error: ErrorFactory) -> type:
    """Return the stand-in for a name that must not be called.

    Args:
        name: Dotted name in the pickle.
        make_error: Returns the error of a call, given the escaped and shortened name.
    """
    shown = name.encode("unicode_escape").decode()[:_LONGEST_NAME]  # the file chose the name; messages show it

    def new(*_: Any, **__: Any) -> Any:
        raise make_error(shown)

    return _Refused("Refused", (), {"__new__": new, "__slots__": (), "shown": shown})


class _Restorable(type):
    """Metaclass of the stand-ins for unknown classes: their objects may be restored, but they may not be called."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        refuse: Any = cls.__dict__["refuse"]
        raise refuse.__func__()

    def __setattr__(cls, name: str, value: object) -> None:
        refuse: Any = cls.__dict__["refuse"]
        raise refuse.__func__()


def restorable_class(name: str, make_error: ErrorFactory) -> type:
    """Return the stand-in for a name of which a pickle may restore objects, but which it must not call.

    A pickle restores most objects without a call: it names their class and lists their content. The stand-in keeps the
    items of a dict, since a class may be derived from it, and drops everything else.

    Args:
        name: Dotted name in the pickle.
        make_error: Returns the error of a call, given the escaped and shortened name.
    """
    shown = name.encode("unicode_escape").decode()[:_LONGEST_NAME]  # the file chose the name; messages show it

    def new(cls: type, *_: Any, **__: Any) -> Any:
        return dict.__new__(cls)

    def drop(*_: Any) -> None:
        pass

    dropped = dict.fromkeys(("__setstate__", "append", "extend", "add"), drop)
    refuse = staticmethod(lambda: make_error(shown))
    return _Restorable(
        "Restored", (dict,), {"__new__": new, "__slots__": (), "shown": shown, "refuse": refuse, **dropped}
    )


def irregularity(stream: IO[bytes]) -> str | None:
    """Return what a pickle has that no regular one has and that costs far more than its size, or None.

    A memo index of a few bytes, larger than the number of opcodes, would make the unpickler allocate gigabytes.
    Integers of more than 61 bits can all have one hash, and then the time of a dict or set grows with the square of its
    size.
    """
    wide = 0
    for count, (opcode, number, _) in enumerate(pickletools.genops(stream)):
        if not isinstance(number, int):
            continue
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and number > count:
            return "a memo index without an object"
        wide += abs(number) >= sys.hash_info.modulus
        if wide > _MAX_WIDE:
            return f"more than {_MAX_WIDE} integers of over 61 bits"
    return None
