"""What a call consists of: the request, the attempts to send it and the pauses between them, and what comes of each."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No HTTP response.

    Attributes:
        reason: A sentence.
        unsent: Whether the service certainly received nothing.
    """

    reason: str
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart form: a file, or an option as text."""

    name: str
    content: bytes
    is_file: bool = True


@dataclass(frozen=True, slots=True)
class Call(Generic[Result_co]):
    """A request that may be sent several times, and how its answer is read.

    Attributes:
        method, path, query: As in HTTP; the path is quoted.
        read: Returns the result of a response whose status is below 300.
        repeatable: Whether the request may be sent again although the first one may have had its effect.
        content: Body, unless it has parts.
        media_type: Media type of the body.
        accept: Media type of the response.
        parts: Parts of a multipart form.
    """

    method: str
    path: str
    read: Callable[[Answer], Result_co]
    query: tuple[tuple[str, str], ...] = ()
    repeatable: bool = True
    content: bytes | None = None
    media_type: str = "application/json"
    accept: str = "application/json"
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """To do: send the request, and wait for the response for at most some seconds."""

    call: Call[object]
    left_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """To do: wait."""

    seconds: float


Steps = Generator[Attempt | Pause, Answer | Failure | None, Result]
"""What a call does: each attempt is answered with what came of it, each pause with None."""
