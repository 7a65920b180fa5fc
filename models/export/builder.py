"""A user's own network: code from the working directory that builds it.

The code may have packages with the names of this program's, such as `models` in CVLFace's layout. While it runs, its
packages replace this program's; afterwards this program's are back. So it runs inside `Builder.modules` only.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from models.errors import BuilderUnfit

_OWN = ("models", "service")
_PROGRAM = Path(__file__).parents[2]


class Builder:
    """The user's callable that builds a network, and the modules that it was imported with."""

    def __init__(self, reference: str) -> None:
        """Import the callable.

        Args:
            reference: `package.module:callable`, found from the working directory, as `python -m` finds modules.

        Raises:
            BuilderUnfit: The module cannot be imported or has no such callable.
        """
        self._directory = Path.cwd()
        self._hidden = [name for name in _OWN if _is_users(name, self._directory)]
        self._imported: dict[str, ModuleType] = {}
        module_name, _, name = reference.partition(":")
        try:
            with self.modules():
                self._build: Callable[[], Any] = getattr(importlib.import_module(module_name), name)
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise BuilderUnfit(f"the builder {reference} cannot be imported: {first_lines(error)}") from error
        if not callable(self._build):
            raise BuilderUnfit(f"the builder {reference} cannot be called; name a function or class")

    def __call__(self) -> Any:
        """Return what the user's callable returns."""
        with self.modules():
            return self._build()

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Let imports find the user's packages first, those with the names of this program's included."""
        own = self._replace(self._imported)
        finder = _Finder(self._hidden, self._directory)
        sys.meta_path.insert(0, finder)
        sys.path.insert(0, str(self._directory))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(self._directory))
            sys.meta_path.remove(finder)
            self._imported = self._replace(own)

    def _replace(self, modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
        """Replace the loaded modules of the hidden packages, and return them."""
        loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in self._hidden}
        for name in loaded:
            del sys.modules[name]
        sys.modules.update(modules)
        return loaded


class _Finder:
    """Finds the hidden packages in one directory only, also those without `__init__.py`.

    A later package with `__init__.py` would precede them. They become packages without `__file__`, because `inspect`,
    which torch calls, fails for a namespace package that has the name of a module it has seen.
    """

    def __init__(self, names: Sequence[str], directory: Path) -> None:
        self._names = names
        self._directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if fullname.partition(".")[0] not in self._names:
            return None
        found = PathFinder.find_spec(fullname, [str(self._directory)] if path is None else path, target)
        if found is None or found.loader is not None:
            return found
        package = ModuleSpec(fullname, _Empty(), is_package=True)
        package.submodule_search_locations = list(found.submodule_search_locations or ())
        return package


class _Empty(Loader):
    """Loads a package that has no code of its own."""

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader.exec_module`."""


def _is_users(name: str, directory: Path) -> bool:
    """Return whether a directory has a package or module of this name that is not this program's."""
    found = (directory / name).is_dir() or (directory / f"{name}.py").is_file()
    return found and directory.resolve() != _PROGRAM.resolve()


def first_lines(error: BaseException) -> str:
    """Return the first lines of an error as one line, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400] or type(error).__name__
