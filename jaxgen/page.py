"""One self-contained HTML page from plain data: no network, no script, at home on a laptop and a phone."""

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, SupportsFloat

__all__ = ["FigureRow", "Picture", "render_page"]


class FigureRow(NamedTuple):
    """One line of the table of figures: "−log p(x)  89.7 ± 0.2  nats  500 samples"."""

    name: str
    value: SupportsFloat | str
    spread: SupportsFloat | None = None  # one standard deviation over replicas
    unit: str = ""
    note: str = ""


class Picture(NamedTuple):
    """One picture with what to look for; pictures of the same section stand under one heading."""

    title: str
    caption: str
    png: bytes | str | os.PathLike[str]  # the file's bytes, or its path
    alt: str
    section: str = ""
    wide: bool = False  # over both columns


def render_page(
    *,
    title: str,
    subtitle: str = "",
    notes: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    figures: Sequence[FigureRow] = (),
    pictures: Sequence[Picture] = (),
    command: str = "",
    details: Mapping[str, str] | None = None,
) -> str:
    """The page as text: title, facts, table of figures, pictures, command and details. Every text is escaped.

    Args:
        title: heading and name of the page.
        subtitle: one sentence below it.
        notes: what a reader must know before the figures, a paragraph each.
        facts: pairs of a label and a short value, in a strip: data, steps, time.
        figures: rows of the table of results.
        pictures: in the order of the page, the learning curves first.
        command: what to type to get the run again.
        details: versions, hardware, revision: names and values.

    Returns:
        A complete HTML document; write it with encoding UTF-8.

    Raises:
        ValueError: a picture is no PNG, or has no alt text.
        FileNotFoundError: a picture's path leads nowhere.

    Example:
        >>> page = render_page(title="VAE on <digits>", figures=[FigureRow("nll", 17.449, 0.012, "nats")])
        >>> "<h1>VAE on &lt;digits&gt;</h1>" in page, "17.449 ± 0.012" in page
        (True, True)
    """
    parts = [
        _header(title, subtitle, notes, facts),
        _figure_table(figures),
        *(_section(name, list(group)) for name, group in groupby(pictures, key=lambda picture: picture.section)),
        _origin(command, details or {}),
    ]
    body = "\n".join(part for part in parts if part)
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body=body)


def format_figure(value: SupportsFloat | str, spread: SupportsFloat | None = None) -> str:
    """A number to the digits it deserves: two of the spread if there is one, else four; "17.449 ± 0.012".

    Example:
        >>> format_figure(-1165127.5), format_figure(0.022751), format_figure(3.0, 0.25), format_figure(1e-7)
        ('−1,165,128', '0.02275', '3.00 ± 0.25', '1e−07')
    """
    if isinstance(value, str):
        return value
    value, spread = float(value), None if spread is None else float(spread)
    if not math.isfinite(value) or (spread is not None and not math.isfinite(spread)):
        text = f"{value:g}" if spread is None else f"{value:.4g} ± {spread:.2g}"
    elif spread is not None and spread < 1e-6:
        text = f"{value:.4g} ± {spread:.2g}"
    elif spread is not None:
        digits = max(0, 1 - math.floor(math.log10(spread)))
        text = f"{value:,.{digits}f} ± {spread:,.{digits}f}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def _header(title: str, subtitle: str, notes: Sequence[str], facts: Sequence[tuple[str, str]]) -> str:
    lead = f"\n<p class='lead'>{escape(subtitle)}</p>" if subtitle else ""
    lead += "".join(f"\n<p class='warning'>{escape(note)}</p>" for note in notes)
    strip = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    strip = f"\n<dl class='facts'>{strip}</dl>" if strip else ""
    return f"<header>\n<h1>{escape(title)}</h1>{lead}{strip}\n</header>"


def _figure_table(figures: Sequence[FigureRow]) -> str:
    if not figures:
        return ""
    rows = "\n".join(
        f"<tr><th scope='row'>{_breakable(row.name)}</th>"
        f"<td class='number'>{escape(format_figure(row.value, row.spread))}</td>"
        f"<td class='unit'>{escape(row.unit)}</td><td class='note'>{escape(row.note)}</td></tr>"
        for row in figures
    )
    return (
        "<section>\n<h2>Figures</h2>\n<div class='card'><table>\n"
        "<thead><tr><th scope='col'>measure</th><th scope='col' class='number'>value</th>"
        "<th scope='col'>unit</th><th scope='col' class='note'>how</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>\n</section>"
    )


def _breakable(name: str) -> str:
    """A name that may break after a stroke or an underscore, and nowhere else."""
    return re.sub(r"(?<=[/_])(?=.)", "<wbr>", escape(name))


def _section(name: str, pictures: Sequence[Picture]) -> str:
    heading = f"<h2>{escape(name)}</h2>\n" if name else ""
    return f"<section>\n{heading}<div class='grid'>\n" + "\n".join(map(_picture, pictures)) + "\n</div>\n</section>"


def _picture(picture: Picture) -> str:
    if not picture.alt.strip():
        raise ValueError(f"picture {picture.title!r} has no alt text; say in a sentence what it shows")
    png = picture.png if isinstance(picture.png, bytes) else Path(picture.png).read_bytes()
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"picture {picture.title!r} is no PNG, its {len(png)} bytes start with {png[:8]!r}")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    wide = " wide" if picture.wide else ""
    return (
        f"<figure class='card{wide}'>\n<figcaption><h3>{escape(picture.title)}</h3>"
        f"<p>{escape(picture.caption)}</p></figcaption>\n"
        f"<img alt='{escape(picture.alt)}' width='{width}' height='{height}' "
        f"src='data:image/png;base64,{base64.b64encode(png).decode()}'>\n</figure>"
    )


def _origin(command: str, details: Mapping[str, str]) -> str:
    if not command and not details:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in details.items())
    block = f"<pre tabindex='0'><code>{escape(command)}</code></pre>" if command else ""
    rows = f"<dl class='details'>{rows}</dl>" if rows else ""
    return f"<section>\n<h2>How to get this again</h2>\n<div class='card'>{block}{rows}</div>\n</section>"


_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8").strip()

_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
