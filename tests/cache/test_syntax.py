"""The digest of code: what changes it and what does not."""

from __future__ import annotations

import pytest

from getam.cache.syntax import Import, parse

SAME = {
    "comment": ("x = 1", "x = 1  # one"),
    "formatting": ("f(a, b)", "f(\n    a,\n    b,\n)"),
    "quotes": ("x = 'a'", 'x = "a"'),
    "module docstring": ("x = 1", '"""Doc."""\nx = 1'),
    "function docstring": ("def f(): return 1", 'def f():\n    "Doc."\n    return 1'),
    "class docstring": ("class A:\n    x = 1", 'class A:\n    "Doc."\n    x = 1'),
    "attribute docstring": ("x: int = 1", 'x: int = 1\n"""What x is."""'),
    "type checking": ("x = 1", "if TYPE_CHECKING:\n    from a import B\nx = 1"),
    "typing.type checking": ("x = 1", "if typing.TYPE_CHECKING:\n    import a\nx = 1"),
    "type checking else": ("y = 2", "if TYPE_CHECKING:\n    import a\nelse:\n    y = 2"),
    "type comment": ("x = []", "x = []  # type: list[int]"),
    "split f-string": ("x = f'ab{c}d'", "x = f'a' 'b' f'{c}' f'd'"),
    "number notation": ("x = 1000", "x = 1_000"),
}
# What only people read: (rewordings of one text)
REWORDED = {
    "error": ("raise E('a')", "raise E('b')", "raise E('a' 'c')"),
    "error with values": (
        "raise E(f'Got {x}, expected {y!r}.')",
        "raise E(f'Expected {y}; got {x:.2f}: mend it.')",
    ),
    "error in parts": ("raise E('a' + f'{x}') from None", "raise E('b' + f'c{x}') from None"),
    "error with a list": ("raise E(', '.join(x))", "raise E('; '.join(x))"),
    "error that chooses": ("raise E('a' if x else f'b {y}')", "raise E('c' if x else f'{y} d')"),
    "error that is returned": (
        "def f(): return E.AnError(f'a {x}')",
        "def f(): return E.AnError(f'{x}')",
    ),
    "f-string without values": ("raise E('a')", "raise E(f'b')"),
    "assertion": ("assert x, 'a'", "assert x, 'b'"),
    "warning": ("warnings.warn('a', stacklevel=2)", "warnings.warn('b', stacklevel=2)"),
    "imported warn": ("warn(f'a {x}')", "warn(f'{x} b')"),
    "log": ("logger.info('a %s', x)", "logger.info('b: %s', x)"),
    "log of an object": ("self._log.error(f'a {x}')", "self._log.error(f'{x}')"),
    "help": ("option('--a', help='a')", "option('--a', help='b')"),
    "description": ("x = Field(1, description='a')", "x = Field(1, description='b')"),
}
# Near such text, but not it.
STILL_DIFFERENT = {
    "value of an error": ("raise E(f'a {x}')", "raise E(f'a {y}')"),
    "one more value": ("raise E(f'a {x}')", "raise E(f'a {x} {y}')"),
    "number in an error": ("raise E('a', 1)", "raise E('a', 2)"),
    "kind of an error": ("raise E('a')", "raise F('a')"),
    "item of an error": ("raise E(x['a'])", "raise E(x['b'])"),
    "comparison in an error": (
        "raise E('a' if x == 'b' else 1)",
        "raise E('a' if x == 'c' else 1)",
    ),
    "condition of an error": ("if x == 'a': raise E('b')", "if x == 'c': raise E('b')"),
    "condition of an assertion": ("assert x == 'a', 'b'", "assert x == 'c', 'b'"),
    "kind of a warning": ("warnings.warn('a', B)", "warnings.warn('a', C)"),
    "filter of warnings": ("warnings.filterwarnings('a')", "warnings.filterwarnings('b')"),
    "logarithm": ("np.log('a')", "np.log('b')"),
    "name of an option": ("option('--a', help='a')", "option('--b', help='a')"),
    "default of a setting": ("x = Field(1, description='a')", "x = Field(2, description='a')"),
    "description of data": ("x = Item(description='a')", "x = Item(description='b')"),
    "returned text": ("def f(): return 'a'", "def f(): return 'b'"),
    "text after an error": ("raise E('a')\nx = 'b'", "raise E('a')\nx = 'c'"),
}
DIFFERENT = {
    "value": ("x = 1", "x = 2"),
    "type of a value": ("x = 1", "x = 1.0"),
    "truth": ("x = 1", "x = True"),
    "bytes": ("x = 'a'", "x = b'a'"),
    "none": ("x = None", "x = 'None'"),
    "ellipsis": ("x = ...", "x = 'Ellipsis'"),
    "name": ("f(a)", "f(b)"),
    "default": ("def f(a=1): pass", "def f(a=2): pass"),
    "keyword only": ("def f(a, b): pass", "def f(a, *, b): pass"),
    "order": ("f()\ng()", "g()\nf()"),
    "nesting": ("if a:\n    f()\n    g()", "if a:\n    f()\ng()"),
    "operator": ("x = a + b", "x = a - b"),
    "decorator": ("def f(): pass", "@cache\ndef f(): pass"),
    "async": ("def f(): pass", "async def f(): pass"),
    "not type checking": ("x = 1", "if not TYPE_CHECKING:\n    x = 2\nx = 1"),
    "text that is used": ("x = 'a'", "x = 'b'"),
    "format": ("f'{a:>3}'", "f'{a:>4}'"),
    "conversion": ("f'{a!r}'", "f'{a!s}'"),
    "missing argument": ("f(**a)", "f(a)"),
    "negative": ("x = -1", "x = 1"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_how_code_is_written_does_not_change_its_digest(one: str, other: str) -> None:
    assert parse(one.encode(), "").digest == parse(other.encode(), "").digest


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_code_does_changes_its_digest(one: str, other: str) -> None:
    assert parse(one.encode(), "").digest != parse(other.encode(), "").digest


@pytest.mark.parametrize("wordings", REWORDED.values(), ids=REWORDED)
def test_another_wording_for_people_does_not_change_the_digest(wordings: tuple[str, ...]) -> None:
    assert len({parse(wording.encode(), "").digest for wording in wordings}) == 1


@pytest.mark.parametrize(("one", "other"), STILL_DIFFERENT.values(), ids=STILL_DIFFERENT)
def test_what_stands_beside_text_for_people_still_counts(one: str, other: str) -> None:
    assert parse(one.encode(), "").digest != parse(other.encode(), "").digest


def test_digest_is_the_same_on_every_python() -> None:
    """A digest that moved with the interpreter would throw away all artifacts at an upgrade."""
    source = """
from __future__ import annotations
class A(B, metaclass=C):
    x: int = 1
    def f(self, a, /, b=2, *c, d, e=3, **g) -> None:
        with open(a) as h, open(b):
            return [i async for i in h if i] + [*c, {**g}, f"{a!r:>{b}}{c=} {{}}", ...]
    async def g(self): await (yield)
match x:
    case {"a": [1, *_], **rest} | A(b=None): pass
try: raise E from None
except (E, F) as error: del error
finally: x[1:2, ...] @= -1.5e300j
"é\u2028"; y = "\U0001fae8"
"""
    expected = "5d4caeb3b71e4f1f22c3d149fc63041b0f44b1dcc7253b087588fc2f0baf7e37"
    assert parse(source.encode(), "").digest == expected


def test_relative_and_literal_dynamic_imports_are_absolute() -> None:
    source = (
        b"from . import a\nfrom .b import c\nfrom ..d import e\nimport f.g as h\n"
        b"def late():\n    from i import *\n    import_module('.j', __package__)\n"
        b"    importlib.import_module(name)\n"
    )
    assert set(parse(source, "top.package").imports) == {
        Import("top.package", ("a",)),
        Import("top.package.b", ("c",)),
        Import("top.d", ("e",)),
        Import("f.g", None),
        Import("i", ("*",)),
        Import("top.package.j", None),
    }


def test_module_of_docstring_only_is_empty() -> None:
    assert parse(b'"""Doc."""\n# comment', "").empty
    assert not parse(b"x = 1", "").empty
