"""The command line, a function for each command. Nothing heavy is imported before it is needed."""

import ast
import dataclasses
import functools
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jaxgen import flags, interrupt, process
from jaxgen.choices import Which
from jaxgen.errors import UserError, memory_error, nearest

#: What takes less memory, by command.
_LESS = {
    "train": "lower --batch-size, --seeds, or the model's sizes, such as --hidden and --latents",
    "evaluate": "lower --importance-samples",
    "sample": "lower --num",
    "impute": "lower --num",
}

#: What is learned where nobody says.
_DATA = "digits"

#: What one does first, in the README too.
FIRST = (
    "jaxgen train vae --data digits --latents 2 --likelihood gaussian --scale shared "
    "--epochs 200 --learning-rate 0.002 --schedule cosine --workdir runs/first"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 2 for a user's mistake, 128 + signal after an interruption."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if sys.flags.optimize > 1:
        return _mistake("python -OO removes the texts that the flags are explained by; run it with -O at the most")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        import jaxgen

        print(f"jaxgen {jaxgen.__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        trains = name in model_summaries()
        hint = f"did you mean 'jaxgen train {name}'?" if trains else nearest(name, COMMANDS)
        return _mistake(f"there is no command {name!r}; {hint}")
    try:
        return COMMANDS[name](rest) or 0
    except UserError as error:
        return 130 if interrupt.pressed else _mistake(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if lacking := memory_error(error):
            return _mistake(f"{lacking}; {_LESS.get(name, 'close other programs, or take a machine with more of it')}")
        if interrupt.pressed and "jaxgen.training" not in sys.modules:
            return 130  # an import that Ctrl-C broke raises anything
        interrupted = _interrupted(error)
        if interrupted is None and interrupt.pressed:
            return 130
        if interrupted is None:
            raise
        return interrupted


def _mistake(message: str) -> int:
    print(f"jaxgen: {message}", file=sys.stderr)
    return 2


def _wait(doing: str, run: Path, *, replica: int | None = None) -> None:
    """For whoever waits, once the folder is known to be a run; results alone go to standard output."""
    from jaxgen.folder import read_config

    several = read_config(run)["options"]["seeds"] > 1
    whose = f"replica {replica} of {run}" if several and replica is not None else run
    print(f"{doing} {whose} …", file=sys.stderr, flush=True)


def _interrupted(error: Exception) -> int | None:
    from jaxgen.training import Interrupted

    if not isinstance(error, Interrupted):
        return None
    page = "".join(f"; '{note}' draws the page so far" for note in getattr(error, "__notes__", ()))
    print(f"\njaxgen: {error}; everything is saved, the same command goes on from there{page}", file=sys.stderr)
    return 128 + error.signum


def _overview() -> str:
    lines = [f"  {name:<10}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "jaxgen: autoencoders, VAEs, vector quantization and GANs in JAX and Flax.",
            "",
            "usage: jaxgen COMMAND …",
            "",
            *lines,
            "",
            "first steps:",
            f"  {FIRST}",
            "  jaxgen train vae --help        every flag of a model",
            "  jaxgen list                    models and data sets",
        ]
    )


def model_summaries() -> dict[str, str]:
    """One line for each model, read from the source, since importing a model takes a second."""
    folder = Path(__file__).parent / "models"
    exports = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    summaries = {}
    for statement in exports:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("jaxgen.models."):
            file = (statement.module or "").rsplit(".", 1)[-1]
            source = ast.parse((folder / f"{file}.py").read_text(encoding="utf-8"))
            for node in source.body:
                if isinstance(node, ast.FunctionDef) and node.name in {alias.name for alias in statement.names}:
                    summaries[node.name] = (ast.get_docstring(node) or "").splitlines()[0]
    return summaries


def list_(arguments: Sequence[str]) -> None:
    """Models and data sets, one line each."""
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: jaxgen list\n\nModels and data sets, one line each. It takes no arguments.")
        return
    if arguments:
        raise UserError(f"'jaxgen list' takes no arguments, got {' '.join(arguments)}")
    from jaxgen.data import names

    for title, table in (("models", model_summaries()), ("data sets", names())):
        print(f"{title}:")
        for name, line in table.items():
            print(f"  {name:<22}{line}")
        print()
    print("--data also takes any TensorFlow Datasets name, and .npz, .npy or .csv files.")


def train(arguments: Sequence[str]) -> None:
    """Train a model in a folder, or go on where the folder stands: jaxgen train MODEL [flags]."""
    if not arguments or arguments[0].startswith("-"):
        summaries = "\n".join(f"  {name:<22}{line}" for name, line in model_summaries().items())
        usage = "usage: jaxgen train MODEL [flags]\n\n'jaxgen train MODEL --help' explains every flag."
        text = f"{usage}\n\nmodels:\n{summaries}"
        if arguments and arguments[0] in ("-h", "--help"):
            print(text)
            return
        known = model_summaries()
        later = [f"jaxgen train {word} …" for word in arguments if word in known]
        hint = f"write '{later[0]}'" if later else f"one of {', '.join(known)}"
        raise UserError(f"'jaxgen train' needs a model first: {hint}")
    name = arguments[0]
    if name not in model_summaries():
        raise UserError(f"there is no model {name!r}; {nearest(name, model_summaries())}")
    parsed = _train_arguments(name, arguments[1:])
    from jaxgen import report, runs
    from jaxgen.training import Interrupted, Options
    from jaxgen.training.devices import leads

    where: Where = Where(**vars(parsed.run))
    if where.from_ is not None:
        where = _learn_codes(where)
    data = where.data or _DATA
    workdir = where.workdir or Path("runs") / f"{name}-{Path(data).stem}"
    try:
        result = runs.train(
            name,
            vars(parsed.model),
            data=data,
            workdir=workdir,
            options=Options(**vars(parsed.training)),
            data_dir=where.data_dir,
            data_scale=where.data_scale,
            num_devices=where.devices,
        )
    except Interrupted as stopped:
        stopped.add_note(f"jaxgen report {shlex.quote(str(workdir))}")
        raise
    if not leads():
        return
    if result.start == int(result.state.step.max()):
        print(f"{workdir} was already finished at step {result.start}; nothing was left to train")
    _wait("drawing the page of", workdir)
    print(f"report: {report.write(workdir)}")


def _learn_codes(where: "Where") -> "Where":
    """The codes of a run as the data, in a folder of the run's own."""
    from jaxgen import apply
    from jaxgen.priors import prior_folder

    if where.data is not None or where.data_scale is not None:
        raise UserError("--from says whose codes are learned, --data and --data-scale what else; give one of them")
    assert where.from_ is not None
    run = apply.quantizer(where.from_)
    _wait("encoding with", where.from_, replica=0)
    codes = apply.codes_to_learn(run, data_dir=where.data_dir)
    return where._replace(data=str(codes), data_dir=None, workdir=where.workdir or prior_folder(where.from_))


class Where(NamedTuple):
    """What a run is trained on, and where.

    Attributes:
      data: Data set: a name of 'jaxgen list', any TensorFlow Datasets name, or a .npz, .npy or .csv file; digits by
        default.
      data_dir: Folder of prepared TensorFlow Datasets.
      data_scale: Raw value that becomes 1; 255 for bytes, 16 for the digits, 1 for floats by default.
      from_: Folder of a run whose codes are learned, instead of --data; --workdir is RUN/prior then, where
        'jaxgen sample RUN' and 'jaxgen report RUN' find it.
      workdir: The run's folder; runs/MODEL-DATA by default.
      devices: Local devices to use; all by default.
    """

    data: str | None = None
    data_dir: str | None = None
    data_scale: float | None = None
    from_: Path | None = None
    workdir: Path | None = None
    devices: int | None = None


def _train_arguments(name: str, arguments: Sequence[str]) -> Any:
    """Parses the flags of a run: those of the model from its factory's signature, the others from their tables."""
    from jaxgen import runs
    from jaxgen.training import Options

    factory = runs.factory(name)
    learns_codes = "codebook_size" in flags.fields_of(factory)
    if not learns_codes and any(word.partition("=")[0] == "--from" for word in arguments):
        raise UserError(f"--from gives the codes of a run, which {name} does not learn; leave it out")
    own = {field: given for field, given in flags.fields_of(factory).items() if field not in runs.DATA_ARGUMENTS}
    groups = {
        "run": _attributes("Run", Where, without=() if learns_codes else ("from_",)),
        "model": flags.table("Model", own, flags.argument_help(factory), of=name),
        "training": _attributes("Training", Options),
    }
    whole = dataclasses.make_dataclass(
        "Train", [(key, group, dataclasses.field(default_factory=group)) for key, group in groups.items()]
    )
    return flags.parse(whole, arguments, prog=f"jaxgen train {name}", description=flags.description(factory))


def _attributes(name: str, table: Any, *, without: Sequence[str] = ()) -> type:
    """The flags of a NamedTuple whose docstring explains its attributes."""
    hints = inspect.get_annotations(table, eval_str=True)
    fields = {field: flags.Field(hints[field], default) for field, default in table._field_defaults.items()}
    fields = {field: given for field, given in fields.items() if field not in without}
    return flags.table(name, fields, flags.argument_help(table, "Attributes"), of=name)


def _run(command: Callable[..., Any], arguments: Sequence[str]) -> Any:
    """Calls the function that does a command: its signature is the flags, its docstring the help."""
    name, fields = command.__name__.strip("_"), flags.fields_of(command)
    struct = flags.table(name, fields, flags.argument_help(command), of=name)
    about = flags.description(command)
    given = vars(flags.parse(struct, arguments, prog=f"jaxgen {name}", description=about))
    first = [given.pop(field) for field in fields if fields[field].positional]
    return command(*first, **given)


def evaluate(arguments: Sequence[str]) -> None:
    """Figures of a trained run on its test split: jaxgen evaluate RUN [flags]."""
    _run(_evaluate, arguments)


def _evaluate(
    run: Path,
    /,
    *,
    checkpoint: Which = "best",
    importance_samples: int | None = None,
) -> None:
    """Figures of a trained run on its test split, written to RUN/evaluation.json.

    Args:
      run: The run's folder.
      checkpoint: The best by the evaluated objective, or the last.
      importance_samples: Draws for the estimate of log p(x), instead of the run's own number.
    """
    from jaxgen import report
    from jaxgen.console import repeated

    _wait("evaluating", run)
    figures = report.evaluate(run, which=checkpoint, importance_samples=importance_samples)
    evaluated = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    print(
        f"{evaluated['checkpoint']} checkpoint, step {evaluated['step']}, "
        f"{evaluated['split']} split of {evaluated['examples']} examples"
    )
    again = repeated(evaluated["figures"])
    width = max(len(row.name) for row in figures)
    for row in figures:
        if row.name in again:
            continue
        print(f"{row.name:<{width}}  {report.figure_text(row)}")


def sample(arguments: Sequence[str]) -> None:
    """Samples of a trained run, as numbers and as a picture: jaxgen sample RUN --num 64."""
    _run(_sample, arguments)


def _sample(
    run: Path,
    /,
    *,
    num: int = 64,
    seed: int = 0,
    condition: tuple[float, ...] = (),
    replica: int = 0,
    checkpoint: Which = "best",
    out: Path | None = None,
) -> None:
    """Samples of a trained run, as numbers (.npz) and as a picture (.png).

    Args:
      run: The run's folder.
      num: How many.
      seed: Of the noise.
      condition: What a conditional model is told of all of them: the number of a class, or the numbers of a vector. By
        default the classes in turn, or what the test examples come with.
      replica: Which of the run's replicas.
      checkpoint: The best by the evaluated objective, or the last.
      out: The .npz to write; RUN/samples.npz by default, the picture beside it.
    """
    from jaxgen import report

    _wait("sampling from", run)
    for path in report.sample(run, num=num, seed=seed, condition=condition, index=replica, which=checkpoint, out=out):
        print(path)


def report(arguments: Sequence[str]) -> None:
    """The page of a trained run, RUN/report.html: jaxgen report RUN."""
    _run(_report, arguments)


def _report(run: Path, /, *, replica: int = 0, checkpoint: Which = "best", beside: Path | None = None) -> None:
    """Pictures, curves and figures of a trained run in one self-contained page, RUN/report.html.

    Args:
      run: The run's folder.
      replica: Which of the run's replicas the pictures show.
      checkpoint: The best by the evaluated objective, or the last.
      beside: The folder of another run of the same data, whose pictures stand beside this one's: an autoencoder's
        beside a VAE's.
    """
    from jaxgen import report

    _wait("drawing the page of", run)
    print(f"report: {report.write(run, index=replica, which=checkpoint, beside=beside)}")


def encode(arguments: Sequence[str]) -> None:
    """Codes of a data set, as a file that is a data set itself: jaxgen encode RUN --data ..."""
    path = _apply("encode", "encoding with", arguments)
    from jaxgen.code_files import size_of_codes

    if size := size_of_codes(path):
        print(size)


def decode(arguments: Sequence[str]) -> None:
    """Examples from codes that the same run encoded: jaxgen decode RUN CODES."""
    _apply("decode", "decoding with", arguments)


def impute(arguments: Sequence[str]) -> None:
    """Several completions of what is missing in the test examples: jaxgen impute RUN --mask M."""
    _apply("impute", "completing with", arguments)


def _apply(name: str, what: str, arguments: Sequence[str]) -> Path:
    """A function of ``jaxgen.apply`` as a command; the file that it wrote."""
    from jaxgen import apply

    function = getattr(apply, name)

    @functools.wraps(function)
    def announced(path: Path, /, *others: Any, **given: Any) -> Path:
        _wait(what, path, replica=given["replica"])
        return function(path, *others, **given)

    path = _run(announced, arguments)
    print(path)
    return path


COMMANDS: dict[str, Callable[[Sequence[str]], Any]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "report": report,
    "encode": encode,
    "decode": decode,
    "impute": impute,
    "list": list_,
}


def entry() -> NoReturn:
    """The process of ``jaxgen``: runs the command and exits with its code."""
    process.prepare()
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        if error.filename is not None:
            raise
        code = process.unwritten(error)  # what has no name is the output
    process.leave(code)


if __name__ == "__main__":
    entry()
