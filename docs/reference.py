"""The reference in reStructuredText, written from the public names of each module: no list is kept by hand."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = re.compile(r'^\s+"(\w+)",?')
_COMMENT = re.compile(r"^\s+# (.+)")
# A shape such as [batch, *dims], whose star opens no emphasis; what stands between backticks is left as it is.
_STAR = re.compile(r"(`+[^`]*`+)|(?<=[\[ ])\*(?=\w+[,\]])")
# A shape of one name starts with a blank in the source, which keeps linters from reading it as an annotation.
_BLANK = re.compile(r"(?<=\[ArrayLike, ')\s+|(?<=\[Array, ')\s+")


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or the functions and classes defined in the module itself, in the order of the file."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    body = ast.parse(inspect.getsource(module)).body
    defined = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [name for name in defined if not name.startswith("_")]


def groups(module: ModuleType) -> dict[str, list[str]]:
    """Public names under the comments of `__all__`; names before any comment are under the empty title."""
    comments = _comments(module)
    found: dict[str, list[str]] = {}
    for name in public_names(module):
        found.setdefault(comments.get(name, ""), []).append(name)
    return found


def _comments(module: ModuleType) -> dict[str, str]:
    """The comment of `__all__` that each name stands under."""
    source = Path(inspect.getfile(module)).read_text(encoding="utf-8")
    lines = source.partition("\n__all__ = [\n")[2].partition("\n]")[0].splitlines()
    title, titles = "", {}
    for line in lines:
        if comment := _COMMENT.match(line):
            title = comment[1][0].upper() + comment[1][1:]
        elif name := _NAME.match(line):
            titles[name[1]] = title
    return titles


def _entry(module: ModuleType, name: str) -> str:
    """The directive that documents one name; methods are shown of classes that are no plain tuples."""
    thing, path = getattr(module, name), f"{module.__name__}.{name}"
    if not inspect.isclass(thing):
        return f".. autofunction:: {path}\n"
    if issubclass(thing, BaseException):
        return f".. autoexception:: {path}\n"
    return f".. autoclass:: {path}\n" + ("" if hasattr(thing, "_fields") else "   :members:\n")


def summary(module_name: str) -> str:
    """One line for each name, in tables by group."""
    module = importlib.import_module(module_name)
    text = ""
    for title, names in groups(module).items():
        rows = "".join(f"   ~{module_name}.{name}\n" for name in names)
        text += (f".. rubric:: {title}\n\n" if title else "") + f".. autosummary::\n   :nosignatures:\n\n{rows}\n"
    return text


def page(module_name: str) -> str:
    """The module's own words, then every name by group with signature, formula, arguments and example."""
    module = importlib.import_module(module_name)
    text = f".. automodule:: {module_name}\n\n.. currentmodule:: {module_name}\n\n"
    text += f"Names are imported from here, in the examples too: ``from {module_name} import …``.\n\n"
    for title, names in groups(module).items():
        heading = f"{title}\n{'-' * len(title)}\n\n" if title else ""
        text += heading + "".join(_entry(module, name) + "\n" for name in names)
    return text


def signature(thing: Any) -> tuple[str, str | None] | None:
    """Arguments and result as the source has them: `Float[ArrayLike, "batch *dims"]`, not what it evaluates to.

    Of a function or a NamedTuple; None of anything else.
    """
    thing = inspect.unwrap(thing)
    if not inspect.isroutine(thing) and not hasattr(thing, "_fields"):
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
        return _tidy(f"({', '.join(fields)})"), None
    assert isinstance(node, ast.FunctionDef)
    if node.args.args and node.args.args[0].arg in ("self", "cls"):
        del node.args.args[0]
    return _tidy(f"({ast.unparse(node.args)})"), _tidy(ast.unparse(node.returns)) if node.returns else None


def _tidy(text: str) -> str:
    return _BLANK.sub("", text)


def escape_shapes(lines: list[str]) -> None:
    """Escapes, in place, the star of a shape in the prose of a docstring."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            lines[i] = _STAR.sub(lambda found: found[1] or r"\*", line)
