"""Runs experiments, keeps their figures, and writes the table of experiments/README.md from what is kept.

    python experiments/reproduce.py linear_vae vae_digits --seeds 3
    python experiments/reproduce.py all --scale cpu
    python experiments/reproduce.py --table

Each experiment leaves experiments/results/NAME-SCALE.json and small pictures beside it. An interrupted experiment goes
on where it stood; delete its folder under runs/experiments to start over. The exit code is 1 where a figure missed its
reference, 2 where an experiment could not be run.
"""

import ast
import difflib
import importlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from figures import HEADINGS, PICTURE_BYTES, RESULTS, ROOT, Scale, columns, perform, result, scales, show, stoppable
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.folder import write_json

README = ROOT / "experiments" / "README.md"
BEGIN, END = "<!-- results: written by reproduce.py -->", "<!-- end of results -->"
#: What an experiment's function takes, by which it is known; ``scale`` besides where it has two.
_RUN = {"seeds", "workdir"}


def experiments() -> dict[str, str]:
    """The head of every module of this folder that defines ``run``, by name."""
    found = {}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef)
                and node.name == "run"
                and {a.arg for a in node.args.kwonlyargs} - {"scale"} == _RUN
            ):
                found[path.stem] = ast.get_docstring(tree) or ""
    return found


def reproduce(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    seeds: int | None = None,
    scale: Scale = "cpu",
    table: bool = False,
) -> int:
    """Run experiments, keep their figures, and write the table of experiments/README.md.

    Args:
      names: Experiments to run, or "all" that have the scale.
      seeds: Replicas of each; the experiment's own number by default.
      scale: cpu takes minutes on two cores; full is the published setting, where an experiment has one.
      table: Only write the table again.
    """
    known = experiments()
    if not names and not table:
        raise UserError(f"name an experiment, or all: {', '.join(known)}")
    code = 0
    if "all" in names:
        names = tuple(name for name in known if scale in scales(importlib.import_module(name).run))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise UserError(f"there is no experiment {name!r}; {hint}")
        try:
            code = max(code, _run(name, known[name], seeds=seeds, scale=scale))
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = 2
    README.write_text(with_results(README.read_text(encoding="utf-8"), load_results(RESULTS)), encoding="utf-8")
    print(f"table: {README.relative_to(ROOT)}")
    return code


def _run(name: str, head: str, *, seeds: int | None, scale: Scale) -> int:
    run = importlib.import_module(name).run
    replicas: int = inspect.signature(run).parameters["seeds"].default if seeds is None else seeds
    outcome, seconds = perform(name, run, seeds=replicas, scale=scale)
    record = result(name, scale, head, outcome, seeds=replicas, seconds=seconds)
    RESULTS.mkdir(exist_ok=True)
    for picture, (_, source) in zip(record["pictures"], outcome.pictures.values()):
        save_small(source, RESULTS / picture["file"])
    write_json(RESULTS / f"{name}-{scale}.json", record)
    print(f"{name}, {replicas} seeds, scale {scale}, {seconds:.0f} s")
    show(record["figures"])
    return int(any(figure["within"] is False for figure in record["figures"]))


def save_small(source: Path, target: Path) -> None:
    """A picture with few colours, at half size, and smaller yet until it fits its allowance in the repository."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    share = 0.5
    while True:
        size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
        for colors in (64, 16):
            picture.resize(size, Image.Resampling.LANCZOS).quantize(colors).save(target, optimize=True)
            if target.stat().st_size < PICTURE_BYTES:
                return
        share *= 0.9 * (PICTURE_BYTES / target.stat().st_size) ** 0.5


def load_results(folder: Path) -> list[dict[str, Any]]:
    """Every kept result, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def with_results(page: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A page whose region between the two marks holds these results and nothing else.

    Raises:
      UserError: if the page lost one of its marks.
    """
    if BEGIN not in page or END not in page:
        raise UserError(f"{README.name} lost its marks {BEGIN} and {END}; put them back around the table")
    before, rest = page.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{results_text(results)}\n{END}{rest.split(END, 1)[1]}"


def results_text(results: Sequence[Mapping[str, Any]]) -> str:
    """The table of all figures, then for each experiment how it was had, and its pictures."""
    lines = [_row(["experiment", *HEADINGS]), _row(["---"] * (1 + len(HEADINGS)))]
    for kept in results:
        anchor = f"{kept['experiment']}, {kept['scale']}"
        lines += [_row([anchor, *columns(figure)]) for figure in kept["figures"]]
    for kept in results:
        lines += ["", f"### {kept['experiment']}, {kept['scale']}", "", kept["summary"], "", _conditions(kept)]
        lines += [f"\n![{p['caption']}](results/{p['file']})\n\n{p['caption']}" for p in kept["pictures"]]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _conditions(kept: Mapping[str, Any]) -> str:
    minutes, machine = kept["seconds"] / 60, kept["hardware"]
    duration = f"{kept['seconds']:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
    where = machine["accelerator"] or f"{machine['cores']} cores of {machine['cpu']}"
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    revision = f"revision {kept['revision']}" if kept["revision"] else "no revision"
    return (
        f"`{kept['command']}`: {kept['seeds']} seeds together in {duration} on {where}; "
        f"{versions}; {revision}; {kept['date']}."
    )


if __name__ == "__main__":
    try:
        with stoppable("reproduce.py"):
            sys.exit(tyro.cli(reproduce, description=__doc__))
    except UserError as error:
        print(f"reproduce.py: {error}", file=sys.stderr)
        sys.exit(2)
