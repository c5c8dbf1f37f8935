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
    ``if TYPE_CHECKING:`` blocks, and the same on every Python that can parse the module. Text that
    only people read does not count either: see `_Essence`.
    Raises SyntaxError or ValueError (null bytes, wrong encoding).

    >>> documented = b'def f( x ):\\n  "Doc."\\n  return x'
    >>> parse(documented, "") == parse(b"def f(x): return x  # same", "")
    True
    """
    tree = _Essence().visit(ast.parse(source))
    digest = hashlib.sha256(_written(tree.body).encode()).hexdigest()
    return Module(digest, not tree.body, tuple(_imports(tree, package)), _exports(tree))


_LOG_CALLS = ("debug", "info", "warning", "error", "exception", "critical", "log")
_HELP = ("help", "short_help", "epilog")


class _Essence(ast.NodeTransformer):
    """Drops what does not change what the code does.

    Text for people is that inside ``raise`` and in the making of an exception, the message of
    ``assert``, the arguments of ``warnings.warn`` and of log calls, ``help=`` and
    ``Field(description=...)``. There a string literal counts as empty, and an f-string as its
    values, in any order and format. The values themselves, subscripts and comparisons count as
    they do everywhere.
    """

    def __init__(self) -> None:
        self._text = False

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """A stage's ``check(job)`` only refuses: nothing that it does reaches an artifact."""
        node.body = [statement for statement in node.body if not _only_checks(statement)]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._read(node, text=True)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.test = self.visit(node.test)
        node.msg = node.msg and self._visited(node.msg, text=True)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_import_call(node):
            return node
        node.func = self.visit(node.func)
        told = self._text or _is_told(node.func)
        node.args = [self._visited(argument, text=told) for argument in node.args]
        for keyword in node.keywords:
            text = told or keyword.arg in _HELP or _is_description(node.func, keyword)
            keyword.value = self._visited(keyword.value, text=text)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.value = self.visit(node.value)
        node.slice = self._visited(node.slice, text=False)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self._read(node, text=False)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if self._text and isinstance(node.value, str) else node

    def _read(self, node: ast.AST, *, text: bool) -> ast.AST:
        """The node, with the strings in it taken as text for people or not."""
        before, self._text = self._text, text
        try:
            return self.generic_visit(node)
        finally:
            self._text = before

    def _visited(self, node: ast.expr, *, text: bool) -> ast.expr:
        before, self._text = self._text, text
        try:
            return self.visit(node)
        finally:
            self._text = before

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
        if self._text:
            return _values_alone(node)
        merged: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
                merged[-1] = ast.Constant(merged[-1].value + part.value)
            elif not (isinstance(part, ast.Constant) and part.value == ""):
                merged.append(part)
        node.values = merged
        return node


def _only_checks(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.FunctionDef) or statement.name != "check":
        return False
    return [argument.arg for argument in statement.args.args] == ["job"]


def _values_alone(node: ast.JoinedStr) -> ast.expr:
    """Of an f-string that people read: its values, sorted, without their formats."""
    values = [p.value for p in node.values if isinstance(p, ast.FormattedValue)]
    if not values:
        return ast.Constant("")
    return ast.JoinedStr([ast.FormattedValue(v, -1) for v in sorted(values, key=_written)])


def _is_told(func: ast.expr) -> bool:
    """Whether a call warns, logs, or makes an exception, which by its name says so."""
    if _name(func).endswith(("Error", "Exception")):
        return True
    if not isinstance(func, ast.Attribute):
        return isinstance(func, ast.Name) and func.id == "warn"
    owner = _name(func.value)
    if owner == "warnings":
        return func.attr == "warn"
    return func.attr in _LOG_CALLS and owner.lower().strip("_") in ("log", "logger", "logging")


def _is_description(func: ast.expr, keyword: ast.keyword) -> bool:
    return keyword.arg == "description" and _name(func) == "Field"


def _name(func: ast.expr) -> str:
    return getattr(func, "attr", None) or getattr(func, "id", "")


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _written(value: Any) -> str:
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


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
    name = _name(node.func)
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
