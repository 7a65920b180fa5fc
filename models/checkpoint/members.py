"""Find the state dicts in the content of a checkpoint file, at any place and under any name."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.checkpoint.tensors import Tensor

_MAX_DEPTH = 6  # of dicts and lists around a state dict


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A dict of named tensors in a file.

    Attributes:
        path: The keys and positions that lead to it; empty for the file's top level.
        tensors: The tensors by key. Single numbers without a dotted key, such as `epoch`, are left out.
    """

    path: tuple[str, ...]
    tensors: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The path with dots in between."""
        return ".".join(self.path)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor by key."""
        return {key: tensor.shape for key, tensor in self.tensors.items()}

    def is_at(self, name: str) -> bool:
        """Return whether the member has this dotted name."""
        return sum(map(len, self.path)) + max(0, len(self.path) - 1) == len(name) and self.name == name

    def is_inside(self, name: str) -> bool:
        """Return whether the member lies in the dict of this dotted name."""
        return any(".".join(self.path[:depth]) == name for depth in range(1, len(self.path)))


def members_of(tree: Any) -> list[Member]:
    """Return the dicts of named tensors in the content of a file, the outer ones first."""
    found = []
    seen: set[int] = set()  # a pickle may hold a list in itself, or one dict many times
    queue: deque[tuple[tuple[str, ...], Any]] = deque([((), tree)])
    while queue:
        path, node = queue.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, dict) and (tensors := _tensors(node)):
            found.append(Member(path, tensors))
        if len(path) < _MAX_DEPTH:
            queue.extend(((*path, key), child) for key, child in _children(node))
    return found


def _tensors(node: dict[Any, Any]) -> dict[str, Tensor]:
    found = {key: value for key, value in node.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return {key: tensor for key, tensor in found.items() if tensor.shape or "." in key}


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dicts and lists in a dict or list; an optimizer's state has numbers for keys and is passed over."""
    pairs: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, child in pairs:
        if isinstance(child, dict | list | tuple) and (isinstance(key, str) or not isinstance(node, dict)):
            yield str(key), child
