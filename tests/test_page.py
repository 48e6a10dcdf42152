"""A page that is well formed, keeps its texts as texts, and asks nothing of the network."""

import base64
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from jaxgen import plots
from jaxgen.page import FigureRow, Picture, format_figure, render_page

EVIL = """<script>alert(1)</script> & "double" 'single' {brace} %s"""
VOID = {"meta", "img", "wbr"}


class Reader(HTMLParser):
    """Fails on a tag that is closed out of order; keeps the texts, the tags and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "wbr":  # the same text goes on
            tag, before = self.texts.pop()
            self.texts.append((tag, before + data))
            self.tags[-1] = ("joined", {})
        elif data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    return plots.save(Figure(figsize=(2, 1)), tmp_path_factory.mktemp("plots") / "blank.png")


def evil_page(png):
    return render_page(
        title=EVIL,
        subtitle=EVIL,
        notes=[EVIL],
        facts=[(EVIL, EVIL)],
        figures=[FigureRow(EVIL, EVIL, None, EVIL, EVIL)],
        pictures=[Picture(EVIL, EVIL, png, EVIL, section=EVIL)],
        command=EVIL,
        details={EVIL: EVIL},
    )


def test_every_text_stays_a_text(png):
    reader = Reader(evil_page(png))
    texts = [tag for tag, text in reader.texts if text == EVIL]
    assert sorted(texts) == sorted(
        ["title", "h1", "p", "p", "dt", "dd", "th", "td", "td", "td", "h2", "h3", "p", "code", "dt", "dd"]
    )
    assert not reader.find("script")
    assert reader.find("img")[0]["alt"] == EVIL


def test_nothing_comes_from_the_network(png):
    reader = Reader(evil_page(png))
    assert {"link", "iframe", "object", "base"}.isdisjoint(tag for tag, _ in reader.tags)
    assert all(image["src"].startswith("data:image/png;base64,") for image in reader.find("img"))
    (style,) = (text for tag, text in reader.texts if tag == "style")
    assert not re.search(r"url\(|@import|https?:", style)
    assert style.count("{") == style.count("}")


def test_pictures_are_the_files_byte_for_byte(png):
    content = png.read_bytes()
    page = render_page(
        title="run",
        pictures=[Picture("a", "", png, "from a path"), Picture("b", "", content, "from bytes", wide=True)],
    )
    first, second = Reader(page).find("img")
    for image in (first, second):
        assert base64.b64decode(image["src"].partition(",")[2]) == content
        assert (image["width"], image["height"]) == ("400", "200")
    assert [figure["class"] for figure in Reader(page).find("figure")] == ["card", "card wide"]


def test_a_page_goes_from_figures_over_pictures_to_the_command(png):
    pictures = [Picture(name, f"look at {name}", png, name, section=name[0]) for name in ("c1", "c2", "s1")]
    page = render_page(
        title="The run",
        subtitle="of today",
        notes=["not finished"],
        facts=[("steps", "5")],
        figures=[FigureRow("nll", 89.7312, 0.21, "nats", "500 samples")],
        pictures=pictures,
        command="jaxgen train vae",
        details={"jax": "0.10"},
    )
    texts = [text for tag, text in Reader(page).texts if tag not in ("title", "style")]
    assert texts == [
        *("The run", "of today", "not finished", "steps", "5"),
        *("Figures", "measure", "value", "unit", "how", "nll", "89.73 ± 0.21", "nats", "500 samples"),
        *("c", "c1", "look at c1", "c2", "look at c2", "s", "s1", "look at s1"),
        *("How to get this again", "jaxgen train vae", "jax", "0.10"),
    ]


def test_names_break_after_strokes_and_underscores_alone():
    page = render_page(title="run", figures=[FigureRow("player/a_name_", 1.0)])
    assert "<th scope='row'>player/<wbr>a_<wbr>name_</th>" in page
    assert ("th", "player/a_name_") in Reader(page).texts


def test_what_a_run_lacks_leaves_no_empty_part():
    reader = Reader(render_page(title="run"))
    assert [text for tag, text in reader.texts if tag != "style"] == ["run", "run"]
    assert not {"table", "figure", "dl", "pre", "section"} & {tag for tag, _ in reader.tags}
    assert reader.find("html") == [{"lang": "en"}]
    assert render_page(title="run").startswith("<!DOCTYPE html>\n")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in reader.find("meta")


def test_a_picture_without_words_or_that_is_none_is_refused(png):
    with pytest.raises(ValueError, match="'a' has no alt text"):
        render_page(title="run", pictures=[Picture("a", "", png, " ")])
    with pytest.raises(ValueError, match=r"'a' is no PNG, its 3 bytes start with b'GIF'"):
        render_page(title="run", pictures=[Picture("a", "", b"GIF", "words")])


@settings(deadline=None, max_examples=25)
@given(st.floats(-1e6, 1e6), st.floats(1e-5, 1e5))
def test_a_figure_and_its_spread_have_the_same_decimals_and_two_digits(value, spread):
    shown = [text.replace(",", "").replace("−", "-") for text in format_figure(value, spread).split(" ± ")]
    decimals = [len(text.partition(".")[2]) for text in shown]
    assert decimals[0] == decimals[1]
    assert abs(float(shown[0]) - value) <= 0.5001 * 10.0 ** -decimals[0]
    assert math.isclose(float(shown[1]), spread, rel_tol=0.051)
    if decimals[0]:
        assert 2 <= len(shown[1].replace(".", "").lstrip("0")) <= 3  # 0.0996 is shown as 0.100


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (math.nan, None, "nan"),
        (-math.inf, None, "−inf"),
        (1.5, math.nan, "1.5 ± nan"),
        (19, None, "19"),
        (3.0, 0.0, "3 ± 0"),
        (0.0, None, "0"),
        (12345.6, 0.5, "12,345.60 ± 0.50"),
        ("7 of 8", None, "7 of 8"),
    ],
)
def test_figures_at_the_edges(value, spread, text):
    assert format_figure(value, spread) == text
