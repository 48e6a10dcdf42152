"""Flags out of signatures and docstrings, and one sentence for each that a user got wrong."""

import contextlib
import dataclasses
import inspect
import io
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from jaxgen.errors import UserError, nearest

#: Short names of flags.
_ALIASES = {"learning_rate": ("--lr",)}
#: What stands for an argument that comes without a flag, where its own name would not say it.
_METAVARS = {"path": "RUN"}
#: Python takes text for a path; on the command line there is nothing but text, and nothing to tell them apart.
_PATHS = {str | Path: Path, str | Path | None: Path | None}
#: What a flag takes, in words.
_KINDS = {"INT": "a whole number", "FLOAT": "a number", "[FLOAT [FLOAT ...]]": "numbers"}


class Field(NamedTuple):
    """One flag, or one argument without.

    Attributes:
      annotation: its type.
      default: its value where it is not given; ``inspect.Parameter.empty`` where it must be.
      positional: whether it comes without a flag.
    """

    annotation: Any
    default: Any
    positional: bool = False


def fields_of(function: Callable[..., Any]) -> dict[str, Field]:
    """The arguments of a function: positional-only ones come without a flag."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {
        p.name: Field(_PATHS.get(p.annotation, p.annotation), p.default, p.kind is p.POSITIONAL_ONLY)
        for p in parameters
    }


def argument_help(function: Callable[..., Any], section: str = "Args") -> dict[str, str]:
    """The text of each argument (or attribute) from a docstring, whatever its indentation."""
    _, _, after = f"\n{inspect.getdoc(function) or ''}".partition(f"\n{section}:\n")
    block = re.split(r"\n(?=\S)", after)[0]
    texts, name = {}, ""
    for line in textwrap.dedent(block).splitlines():
        if line and not line.startswith(" "):
            name, _, text = line.partition(": ")
            texts[name] = text.strip()
        elif line.strip() and name:
            texts[name] += " " + line.strip()
    return texts


def description(function: Callable[..., Any]) -> str:
    """What a docstring says before it comes to the arguments."""
    return (inspect.getdoc(function) or "").split("\n\nArgs:")[0]


def table(name: str, fields: Mapping[str, Field], texts: Mapping[str, str], *, of: str) -> type:
    """A dataclass for ``parse`` out of the fields and the text of each; ``from_`` is the flag ``--from``.

    Raises:
      UserError: if the docstring ``of`` which the texts are explains not all of them.
    """
    import tyro

    missing = [field for field in fields if not texts.get(field)]
    if missing:
        raise UserError(f"the docstring of {of} explains no {', '.join(missing)}; add 'name: text' under its Args")

    def flag(field: str, given: Field) -> tuple[str, Any, Any]:
        about = tyro.conf.arg(
            name=field.rstrip("_"),
            help=texts[field],
            aliases=_ALIASES.get(field),
            metavar=_METAVARS.get(field, field.upper()) if given.positional else None,
            # Where nothing is given the text says what happens; "default: None" would not.
            help_behavior_hint="" if given.default in (None, ()) else None,
        )
        annotation = tyro.conf.Positional[given.annotation] if given.positional else given.annotation
        known: Any = {"metadata": {"positional": given.positional}}
        if given.default is not inspect.Parameter.empty:
            known["default"] = given.default
        return field, Annotated[annotation, about], dataclasses.field(**known)

    return dataclasses.make_dataclass(name, [flag(field, given) for field, given in fields.items()])


def parse(struct: type, arguments: Sequence[str], *, prog: str, description: str) -> Any:
    """A dataclass from a command's arguments.

    Raises:
      UserError: for whatever is missing, unknown or of another type, instead of tyro's own boxes.
    """
    import tyro

    config, said = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone), io.StringIO()
    helped = f"see '{prog} --help'"
    # A misspelt flag before anything else: it is why another argument seems to lack, or to be one too many.
    for word in arguments:
        name = word.partition("=")[0]
        if name == "--":
            break
        if name.startswith("--") and name.replace("_", "-") not in (flags := _flags(struct)):
            raise UserError(f"'{prog}' takes no {name!r}; {_meant(name, flags)}{helped}")
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = tyro.cli(
                struct,
                args=list(arguments),
                prog=prog,
                description=description,
                config=config,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        sentence = _sentence(said.getvalue(), prog)
        raise UserError(f"{sentence}{' ' if sentence.endswith('?') else '; '}{helped}") from stop
    sys.stderr.write(said.getvalue())
    if unknown:
        raise UserError(f"'{prog}' takes no {unknown[0]!r}; {helped}")
    return parsed


def _meant(word: str, flags: Sequence[str]) -> str:
    close = get_close_matches(word.replace("_", "-"), flags, 1)
    return f"did you mean '{close[0]}'? " if close else ""


def _flags(struct: type) -> list[str]:
    """Every flag of a dataclass whose fields may be dataclasses themselves."""
    flags = ["--help"]
    for field in dataclasses.fields(struct):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            flags += _flags(field.type)
        elif not field.metadata.get("positional"):
            name = field.name.rstrip("_").replace("_", "-")
            switched = [f"--no-{name}"] if isinstance(field.default, bool) else []
            flags += [f"--{name}", *_ALIASES.get(field.name, ()), *switched]
    return flags


def _sentence(boxed: str, prog: str) -> str:
    """What tyro says in a box, in one sentence like all others; its own words where they are none that are known.

    >>> _sentence("╭─ Invalid choice ─╮\\n│ invalid choice 'bset' for argument   │\\n"
    ...           "│ '--checkpoint'. Expected one of ('best', 'last'). │\\n╰───╯\\n", "jaxgen report")
    "there is no --checkpoint 'bset'; did you mean 'best'?"
    """
    sections: list[str] = [""]
    for line in boxed.splitlines():
        text = line.strip().strip("│").strip()
        if text and not text.strip("─-"):
            sections.append("")
        elif text[:1] not in ("╭", "╰"):
            sections[-1] = f"{sections[-1]} {text}".strip()
    # Where a terminal has no lines to make a box of, the heading is a section of its own.
    said, *more = sections if "│" in boxed else sections[1:] or sections
    if found := re.fullmatch(r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)\.", said):
        choices = re.findall(r"'([^']*)'", found[3])
        return f"there is no {found[2]} {found[1]}; {nearest(found[1].strip(chr(39)), choices)}"
    if found := re.fullmatch(r"Missing value for argument '(.*)'\..*", said):
        return f"{found[1]} needs a value"
    if said.startswith("Missing from"):
        return f"'{prog}' needs {' and '.join(re.findall(r'(?:: |[)] )([A-Z]+) ', said))}"
    if found := re.fullmatch(r"Error parsing (\S+): .*: (.*)", said):
        takes = re.search(r"--\S+ (\[.*?\]\]|[A-Z]+)", " ".join(more))
        kind = takes[1] if takes else "another value"
        return f"{found[1].rpartition('/')[2]} takes {_KINDS.get(kind, kind)}, got {found[2]}"
    return said.rstrip(".") or "the arguments cannot be read"
