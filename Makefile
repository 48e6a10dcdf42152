# make demo: a first trained model and its page.  make test: the whole suite.  make lint: style and types.
# make docs: the reference, every function with its formula, as pages that need no network.
# Each sets up its own environment in .venv; a second call finds it ready.

VENV ?= .venv
JOBS ?= 2
DEMO ?= runs/demo
BIN := $(VENV)/bin

# The first Python of at least 3.11 that can make an environment.
define find_python
for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
  then command -v "$$python"; exit; fi; \
done; \
echo 'No Python of 3.11 or later with venv was found: install one, or give it by PYTHON=/path/to/python3.' >&2; \
exit 1
endef

# $(call install,extras): the package itself stays editable.
define install
@echo 'Installing jaxgen$(1) into $(VENV), once: a minute or two.'
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(1)'
@touch $@
endef

.PHONY: help demo test lint docs

help:
	@sed -n 's/^# \(make d.*\)/\1/p' Makefile | tr -s ' ' | sed 's/\. make/\nmake/g; s/\.$$//'

# A failed attempt leaves nothing behind that would pass for an environment.
$(BIN)/activate:
	@python=$$($(find_python)) && { "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }

$(VENV)/.installed: pyproject.toml | $(BIN)/activate
	$(call install,[tensorboard])

$(VENV)/.installed-test: pyproject.toml | $(BIN)/activate
	$(call install,[test])
	@touch $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/activate
	$(call install,[docs])

# The folder is made anew each time; to go on with a run instead, repeat its own `jaxgen train`.
demo: $(VENV)/.installed
	@rm -rf $(DEMO)
	$(BIN)/jaxgen train vae --data digits --latents 2 --likelihood gaussian --scale shared \
	  --epochs 200 --learning-rate 0.002 --schedule cosine --workdir $(DEMO)
	$(BIN)/jaxgen evaluate $(DEMO)
	$(BIN)/jaxgen report $(DEMO)
	@echo "Open this page in a browser: $(DEMO)/report.html"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# Written anew each time, so that no page outlives what it describes; a warning is an error.
docs: $(VENV)/.installed-docs
	@rm -rf docs/_build
	@echo 'Writing the pages of the reference: half a minute.'
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "Open this page in a browser: docs/_build/html/index.html"
