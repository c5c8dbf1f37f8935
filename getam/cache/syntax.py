"""What a module of Python code means, without how it is written, and what it imports."""

from __future__ import annotations

import ast
import hashlib
from typing import Any, NamedTuple


class Import(NamedTuple):
    """`module` is absolute; `names` are those of ``from module import``, None for ``import``."""

    module: str
    names: tuple[str, ...] | None


class Module(NamedTuple):
    """A parsed module: digest of its meaning, imports, lazy exports (name -> module) if it has."""

    digest: str
    empty: bool
    imports: tuple[Import, ...]
    exports: dict[str, str] | None


def parse(source: bytes, package: str) -> Module:
    """Parse a module that lives in `package` (for relative imports; "" at the top).

    The digest is that of the syntax tree without positions, comments, docstrings and
    ``if TYPE_CHECKING:`` blocks, and the same on every Python that can parse the module.
    Raises SyntaxError or ValueError (null bytes, wrong encoding).

    >>> documented = b'def f( x ):\\n  "Doc."\\n  return x'
    >>> parse(documented, "") == parse(b"def f(x): return x  # same", "")
    True
    """
    tree = _Essence().visit(ast.parse(source))
    parts: list[str] = []
    _write(tree.body, parts)
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return Module(digest, not tree.body, tuple(_imports(tree, package)), _exports(tree))


class _Essence(ast.NodeTransformer):
    """Drops what does not change what the code does."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_type_checking(node.test) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Python versions differ in where they split the literal text of an f-string."""
        self.generic_visit(node)
        merged: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
                merged[-1] = ast.Constant(merged[-1].value + part.value)
            elif not (isinstance(part, ast.Constant) and part.value == ""):
                merged.append(part)
        node.values = merged
        return node


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _write(value: Any, parts: list[str]) -> None:
    """Empty fields are left out, because each Python version adds some to old syntax."""
    if isinstance(value, ast.AST):
        parts.append(type(value).__name__ + "(")
        for field in sorted(value._fields):
            content = getattr(value, field, None)
            if content is not None and content != [] and field not in ("kind", "type_comment"):
                parts.append(field + "=")
                _write(content, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            _write(item, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(ascii(value) + ";")


def _imports(tree: ast.Module, package: str) -> list[Import]:
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append(Import(alias.name, None))
                if alias.asname is None:  # binds the top package, whose names may be used
                    found.append(Import(alias.name.split(".")[0], None))
        elif isinstance(node, ast.ImportFrom):
            module = _absolute("." * node.level + (node.module or ""), package)
            found.append(Import(module, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and _is_import_call(node):
            found.append(Import(_absolute(node.args[0].value, package), None))
    return found


def _is_import_call(node: ast.Call) -> bool:
    name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
    first = node.args[0] if node.args else None
    literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return name in ("import_module", "__import__") and literal


def _absolute(module: str, package: str) -> str:
    name = module.lstrip(".")
    level = len(module) - len(name)
    if level == 0:
        return name
    parents = package.split(".")[: max(0, len(package.split(".")) - level + 1)]
    return ".".join([*parents, name] if name else parents)


def _exports(tree: ast.Module) -> dict[str, str] | None:
    """The literal ``_EXPORTS = {name: module}`` of a package that imports on first use."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", None) == "_EXPORTS" for target in targets):
            return dict(ast.literal_eval(node.value))
    return None
