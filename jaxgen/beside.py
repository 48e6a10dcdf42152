"""The pictures of one run with those of another beside them, where both have the same to show."""

from collections.abc import Iterable, Iterator

from jaxgen.errors import UserError
from jaxgen.shown import Drawn, Shown

#: Pictures of the same question under another name: what a model makes of noise that comes from no example.
_SAME_QUESTION = {"noise": "samples"}


def check_comparable(own: Shown, other: Shown) -> None:
    """Refuses a run beside itself, and runs on other data: pictures beside one another are of the same examples.

    Raises:
      UserError: naming the folder, or both data sets.
    """
    if own.run.path.resolve() == other.run.path.resolve():
        raise UserError(f"{other.run.path} is the run itself; give the folder of another one beside it")
    data, others = own.run.config["data"], other.run.config["data"]
    if data["fingerprint"] != others["fingerprint"]:
        raise UserError(
            f"{own.run.path} learned {data['name']} ({data['fingerprint']}) and {other.run.path} {others['name']} "
            f"({others['fingerprint']}), but pictures stand beside one another where both are of the same data; "
            f"train one of both on the other's"
        )


def side_by_side(own: Iterable[Drawn], other: Iterable[Drawn], names: tuple[str, str]) -> Iterator[Drawn]:
    """Each of the run's own pictures, after it the other run's of the same kind; what has none comes last.

    Args:
      own: pictures of the run whose page it is.
      other: those of the other run, of which only the fellows are taken.
      names: what the titles call the two runs.
    """
    fellows = {_SAME_QUESTION.get(picture.name, picture.name): picture for picture in other}
    alone = []
    for picture in own:
        fellow = fellows.get(_SAME_QUESTION.get(picture.name, picture.name))
        if fellow is None:
            alone.append(picture)
            continue
        yield picture._replace(title=f"{picture.title}: {names[0]}")
        title = f"{fellow.title}: {names[1]}"
        yield fellow._replace(name=f"beside_{fellow.name}", title=title, section=picture.section)
    yield from alone
