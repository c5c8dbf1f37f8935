"""Digests of a stage's code: of its module and of every project module that it imports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from .atomic import identity, settled
from .checked import read_checked, write_checked
from .errors import CacheError
from .file_digests import write_protected
from .syntax import Import, Module, parse


class CodeDigests:
    """Finds modules under `root` among the top `packages`, without importing any.

    Followed are all forms of import, also inside functions and by ``import_module`` with a
    literal name, and the ``__init__`` of each package on the way. A package that imports on first
    use says so with a literal ``_EXPORTS = {name: module}``: then importing a name from it follows
    that module, and of its ``__init__`` only that entry counts. Module names that are computed
    while running are not seen.

    What was parsed is remembered in the file `memory` by size, mtime and inode of each module.
    """

    def __init__(self, root: Path, packages: Sequence[str], memory: Path | None = None) -> None:
        self._root = root
        self._packages = tuple(packages)
        self._memory = memory
        # A changed way of parsing forgets what the former one found.
        self._parser = identity((Path(__file__).parent / "syntax.py").stat())
        self._known: dict[str, tuple[str, Module]] | None = None
        self._unsettled: set[str] = set()
        self._changed = False

    def of(self, module: str) -> dict[str, str]:
        """Code ingredients of `module`: name of each module it reaches -> digest.

        Raises CacheError if the module does not exist or one of them cannot be parsed.
        """
        if self.path(module) is None:
            raise CacheError(
                f"module {module!r} is not found under {self._root}: expected "
                f"{module.replace('.', '/')}.py in one of {', '.join(self._packages)}"
            )
        return _Reached(self).follow(module)

    def ours(self, module: str) -> bool:
        """Whether `module` belongs to one of the packages, existing or not."""
        return module.split(".")[0] in self._packages

    def path(self, module: str) -> Path | None:
        """The file of a project module, or None if it is not one."""
        if not self.ours(module):
            return None
        base = os.path.join(self._root, *module.split("."))
        for path in (base + ".py", os.path.join(base, "__init__.py")):
            if os.path.isfile(path):
                return Path(path)
        return None

    def parsed(self, module: str) -> Module:
        """`module` as it is on the disk now."""
        path = self.path(module)
        if path is None:
            raise CacheError(f"module {module!r} is gone from {self._root}: put it back")
        stat = path.stat()
        name, known = identity(stat), self._load()
        if module not in known or known[module][0] != name:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            known[module] = (name, _parse(path, package))
            if settled(stat):
                self._unsettled.discard(module)
                self._changed = True
            else:
                self._unsettled.add(module)
        return known[module][1]

    def save(self) -> None:
        """Write what was parsed, if anything was; not into a write-protected folder."""
        if not self._changed or self._memory is None or write_protected(self._memory):
            return
        rows = {name: row for name, row in self._load().items() if name not in self._unsettled}
        write_checked(self._memory, json.dumps([self._parser, rows]).encode())
        self._changed = False

    def _load(self) -> dict[str, tuple[str, Module]]:
        if self._known is None:
            body = read_checked(self._memory) if self._memory else None
            parser, rows = json.loads(body) if body else ("", {})
            current = parser == self._parser
            self._known = {name: _restored(*row) for name, row in rows.items() if current}
        return self._known


class _Reached:
    """The walk through the imports of one module."""

    def __init__(self, code: CodeDigests) -> None:
        self._code = code
        self._digests: dict[str, str] = {}
        self._followed: set[Import] = set()

    def follow(self, module: str) -> dict[str, str]:
        pending = [Import(module, None)]
        while pending:
            request = pending.pop()
            if request not in self._followed:
                self._followed.add(request)
                pending += self._step(request)
        return dict(sorted(self._digests.items()))

    def _step(self, request: Import) -> list[Import]:
        module, names = request
        if not self._code.ours(module):
            return []
        parent = module.rpartition(".")[0]
        above = [Import(parent, ())] if parent else []
        path = self._code.path(module)
        if path is None:  # a folder without __init__, or nothing
            return above + [Import(f"{module}.{name}", None) for name in names or ()]
        if path.name != "__init__.py":
            return above + self._count(module)
        return above + self._step_package(module, names)

    def _step_package(self, package: str, names: tuple[str, ...] | None) -> list[Import]:
        exports = self._code.parsed(package).exports
        if exports is None:
            submodules = [Import(f"{package}.{name}", None) for name in names or ()]
            return self._count(package) + [s for s in submodules if self._code.path(s.module)]
        if names is None or "*" in names:  # any of its names may be used
            return self._count(package) + [
                Import(where, (name,)) for name, where in exports.items()
            ]
        following = []
        for name in names:
            if name in exports:
                self._digests[f"{package}:{name}"] = exports[name]
                following.append(Import(exports[name], (name,)))
            elif self._code.path(f"{package}.{name}"):
                following.append(Import(f"{package}.{name}", None))
            else:
                following += self._count(package)
        return following

    def _count(self, module: str) -> list[Import]:
        parsed = self._code.parsed(module)
        if not parsed.empty:
            self._digests[module] = parsed.digest
        return list(parsed.imports)


def _parse(path: Path, package: str) -> Module:
    try:
        return parse(path.read_bytes(), package)
    except (SyntaxError, ValueError) as error:
        where = f"{path}, line {error.lineno}" if isinstance(error, SyntaxError) else f"{path}"
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise CacheError(f"{where}: {reason}; mend the code, then run again") from error


def _restored(name: str, row: list) -> tuple[str, Module]:
    digest, empty, imports, exports = row
    requests = (Import(module, None if n is None else tuple(n)) for module, n in imports)
    return name, Module(digest, empty, tuple(requests), exports)
