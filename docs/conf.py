"""Sphinx's settings: `make docs` builds the pages, which then need no network."""

import sys
from importlib.metadata import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference

import jaxgen

project = "jaxgen"
version = release = jaxgen.__version__
copyright = "the authors of jaxgen, Apache 2.0"
html_title = f"jaxgen {version}"
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]

# MathJax in one file, fonts included: it loads nothing more, so that a page works from a folder too.
_mathjax = next(file for file in files("sphinx-mathjax-offline") or [] if file.name == "tex-svg-full.js")
html_static_path = ["reference.css", str(_mathjax.locate())]
html_css_files = ["reference.css"]
mathjax_path = _mathjax.name
mathjax3_config = {"options": {"enableMenu": False}}

# `name` in a docstring is a link where it is a public name, and code elsewhere.
default_role = "py:obj"
add_module_names = False
autosummary_generate = False
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference"]
napoleon_use_ivar = True
napoleon_attr_annotations = False


def _write_pages(app, name, source):
    source[0] = app.builder.templates.render_string(source[0], {"summary": reference.summary, "page": reference.page})


def _escape(app, what, name, thing, options, lines):
    reference.escape_shapes(lines)


def _signature(app, what, name, thing, options, arguments, result):
    return reference.signature(thing)


def setup(app):
    app.connect("source-read", _write_pages)
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _signature)
