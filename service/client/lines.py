"""The lines of a stream, and the request of a window of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import orjson

from service.client.calls import path_of, texts
from service.client.contents import Content, content_members
from service.client.errors import NoAnswer, problem_from
from service.client.parsing import parse, read
from service.client.schemas import EnrolItem, IdentifyItem
from service.client.steps import Answer, Call

Item = TypeVar("Item", EnrolItem, IdentifyItem)

NDJSON = "application/x-ndjson"
_PASSING = {429, 503}  # statuses of problems that are not the fault of a line


def identify_line(content: Content) -> bytes:
    """Return the line of a photo or an embedding that is searched for."""
    return orjson.dumps(content_members(content, enrolled=False)) + b"\n"


def enrol_line(entry: tuple[str, Content]) -> bytes:
    """Return the line of a subject and its photo or embedding."""
    subject, content = entry
    return orjson.dumps({"subject": subject, **content_members(content, enrolled=True)}) + b"\n"


def identify_lines(
    gallery: str | Sequence[str], options: Mapping[str, Any], lines: Sequence[bytes]
) -> Call[list[IdentifyItem]]:
    """`POST /v1/identify` with lines."""
    return _of_lines("/v1/identify", _items_reader(IdentifyItem, len(lines)), lines, {"gallery": gallery, **options})


def enrol_lines(gallery: str, options: Mapping[str, Any], lines: Sequence[bytes]) -> Call[list[EnrolItem]]:
    """`POST /v1/galleries/{gallery}/templates`."""
    return _of_lines(f"{path_of(gallery)}/templates", _items_reader(EnrolItem, len(lines)), lines, options)


def _of_lines(
    path: str, read_items: Callable[[Answer], list[Item]], lines: Sequence[bytes], options: Mapping[str, Any]
) -> Call[list[Item]]:
    return Call("POST", path, read_items, texts(options), content=b"".join(lines), media_type=NDJSON, accept=NDJSON)


def _items_reader(kind: type[Item], count: int) -> Callable[[Answer], list[Item]]:
    """Return the function that reads the items of a number of lines.

    It raises the problem that ended the response before its last line, or that a line had because of the load or the
    end of the service, so that the window is sent again.
    """

    def read_items(answer: Answer) -> list[Item]:
        items: list[Item] = [read(kind, parse(line)) for line in answer.content.splitlines()]
        for position, item in enumerate(items):
            ended = position == len(items) - 1 < count - 1
            if item.problem is not None and (ended or item.problem.status in _PASSING):
                raise problem_from(asdict(item.problem))
        if len(items) != count:
            raise NoAnswer(f"{len(items)} of {count} lines were answered")
        return items

    return read_items
