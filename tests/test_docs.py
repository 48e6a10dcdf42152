"""The reference: every public function is documented whole, its formula parses, and the pages show it."""

import doctest
import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgen import estimators, losses, metrics, model, models, plots, quantization, training

MODULES = (losses, estimators, quantization, metrics, models, model, training, plots)
DOCS = Path(__file__).parents[1] / "docs"
FORMULA = re.compile(r"^\.\. math::\n+((?:[ ]+.*(?:\n|$))+)", re.MULTILINE)
SECTION = r"^{}:\n((?:[ ]+.*(?:\n|$)|\n)+)"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _functions(*modules):
    """Public functions, once each, by where they are taken from."""
    for module in modules:
        names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        for name in names:
            thing = getattr(module, name)
            if not inspect.isclass(thing) and callable(thing) and thing.__module__.startswith(module.__name__):
                yield pytest.param(thing, id=f"{module.__name__}.{name}")


def _doc(thing) -> str:
    return inspect.getdoc(thing) or ""


def _section(function, title):
    found = re.search(SECTION.format(title), _doc(function), re.MULTILINE)
    return inspect.cleandoc("\n" + found[1]) if found else ""


PURE = list(_functions(losses, estimators, quantization, metrics))


@pytest.mark.parametrize("function", PURE)
def test_a_function_states_formula_arguments_result_and_example(function):
    doc = _doc(function)
    assert len(FORMULA.findall(doc)) == 1, "one formula, in one block"
    documented = re.findall(r"^(\w+): ", _section(function, "Args"), re.MULTILINE)
    assert documented == list(inspect.signature(function).parameters)
    assert _section(function, "Returns")
    assert doctest.DocTestParser().get_examples(doc)
    first = doc.partition("\n\n")[0]
    assert "\n" not in first
    assert first.endswith((".", "?"))


@pytest.mark.parametrize("function", PURE)
def test_a_formula_is_latex(function):
    latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml")
    latex = inspect.cleandoc("\n" + FORMULA.findall(_doc(function))[0])
    latex2mathml.tex2mathml(rf"\begin{{aligned}}{latex}\end{{aligned}}")  # unknown commands are errors
    # Groups and fences, of which that parser forgives one too few.
    assert len(re.findall(r"(?<!\\){", latex)) == len(re.findall(r"(?<!\\)}", latex))
    assert len(re.findall(r"\\left\b", latex)) == len(re.findall(r"\\right\b", latex))
    # Sphinx breaks lines only between alignment marks.
    assert ("\\\\" in latex) == bool(re.search(r"(?<!\\)&", latex))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_page_lists_every_public_name_under_its_title(reference, module):
    names = reference.public_names(module)
    grouped = reference.groups(module)
    assert sorted(name for group in grouped.values() for name in group) == sorted(names)
    listed = re.findall(rf"^\.\. auto\w+:: {module.__name__}\.(\w+)$", reference.page(module.__name__), re.MULTILINE)
    assert sorted(listed) == sorted(names)
    rows = re.findall(rf"^   ~{module.__name__}\.(\w+)$", reference.summary(module.__name__), re.MULTILINE)
    assert rows == listed
    # A module that gives its names in groups leaves none outside.
    assert len(grouped) == 1 or "" not in grouped
    name = module.__name__.removeprefix("jaxgen.")
    assert f'page("{module.__name__}")' in (DOCS / f"{name}.rst").read_text()
    assert re.search(rf"^   {name}$", (DOCS / "index.rst").read_text(), re.MULTILINE)


def test_groups_are_those_of_the_comments(reference):
    grouped = reference.groups(losses)
    assert list(grouped) == ["Likelihood", "Divergence", "Bounds", "Quantization", "Adversarial", "Sparsity"]
    assert grouped["Quantization"] == ["codebook_loss", "commitment_loss"]
    assert grouped["Sparsity"][-1] == losses.__all__[-1]


def test_names_without_a_list_are_those_defined_in_the_file(reference):
    names = reference.public_names(model)
    assert names[0] == "Aux"
    assert "Model" in names
    assert not {"Any", "Array", "NamedTuple", "Batch"} & set(names)


def test_signatures_are_those_of_the_source(reference):
    assert reference.signature(losses.bits_per_dim) == (
        "(nll: Num[ArrayLike, '*shape'], num_dims: int, *, bin_width: Num[ArrayLike, '']=1.0)",
        "Float[Array, '*shape']",
    )
    assert reference.signature(losses.KLDecomposition) == (
        "(mutual_information: Array, total_correlation: Array, dimension_wise_kl: Array)",
        None,
    )
    shapes = reference.signature(losses.kl_diagonal_gaussian)
    assert shapes == (
        "(mean: Num[ArrayLike, 'batch *latents'], logvar: Num[ArrayLike, '...'])",
        "Float[Array, 'batch']",  # " batch" in the source
    )
    assert reference.signature(training.Checkpoints.best) == ("()", "int | None")
    assert reference.signature(training.Checkpoints) is None


def test_stars_of_shapes_are_escaped_and_emphasis_and_code_are_not(reference):
    lines = ["x: [batch, *dims, classes], the *mean*", ">>> f(*[1, *rest])", "`[..., *dims]` of *old* [*dims]"]
    reference.escape_shapes(lines)
    assert lines == [
        r"x: [batch, \*dims, classes], the *mean*",
        ">>> f(*[1, *rest])",
        r"`[..., *dims]` of *old* [\*dims]",
    ]


def test_the_pages_are_whole_and_load_nothing_from_elsewhere(reference, tmp_path):
    for needed in ("sphinx", "furo", "sphinx-mathjax-offline"):
        try:
            importlib.metadata.distribution(needed)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{needed} is not installed: the extra docs has it")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html"]
    built = subprocess.run([*command, "-d", tmp_path / "doctrees", DOCS, tmp_path], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "index.html").read_text()
    for module in MODULES:
        text = (tmp_path / f"{module.__name__.removeprefix('jaxgen.')}.html").read_text()
        names = reference.public_names(module)
        for name in names:
            assert f'id="{module.__name__}.{name}"' in text
            assert f'#{module.__name__}.{name}"' in index
        formulas = sum(".. math::" in _doc(getattr(module, name)) for name in names)
        assert text.count('<div class="math notranslate') == formulas
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="([^"?]+)', text)
        assert "jaxlib" not in text, "annotations as written, not what they evaluate to"
        assert ("_static/tex-svg-full.js" in loaded) == (formulas > 0)
        assert not [url for url in loaded if not (tmp_path / url).is_file()], "files that are not beside the page"
    styles = "".join(path.read_text() for path in tmp_path.glob("_static/**/*.css"))
    assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", styles)
