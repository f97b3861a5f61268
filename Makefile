# A fresh machine needs Python 3.11 or newer and make; every target installs what it uses into .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
NAME ?= lazy

.PHONY: demo test test-lowest test-gui lint format docs linkcheck screenshots bench release-check clean

demo: $(INSTALLED)  ## FILE=map.dm4 LAZY=1 K=4 SIGNAL=title OUT=folder, all optional
	$(BIN)/python -m hyperspy_specml --all $(if $(FILE),"$(FILE)") $(if $(filter-out 0,$(LAZY)),--lazy) \
	    $(if $(K),--output-dimension $(K)) $(if $(SIGNAL),--signal "$(SIGNAL)") $(if $(OUT),--output "$(OUT)")

# One process per core with one thread each: as many threads in every process would fight over the cores. Tests stay
# beside those that share their fixtures until one process has none left.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --timeout 600

# A fast core of the tests with the lowest versions of all dependencies. What old ones warn of is no error.
LOWEST := .venv-lowest/bin
test-lowest:  ## LOWEST_PYTHON=python3.11
	$(or $(LOWEST_PYTHON),$(PYTHON)) -m venv .venv-lowest
	$(LOWEST)/pip install --quiet -c constraints-lowest.txt . pytest pytest-timeout
	OMP_NUM_THREADS=1 $(LOWEST)/pytest -W default --timeout 120 -p no:cacheprovider tests/test_lowest.py tests/test_run.py \
	    tests/statistics/test_moments.py tests/signals/test_spectra.py tests/signals/test_source.py

# Every tool in a browser and in windows of Qt, drawn off screen. One process for each: browser and notebook are shared.
test-gui: $(INSTALLED)
	.ci/browser
	SPECML_GUI_TESTS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --timeout 300 tests/gui/test_browser.py \
	    tests/gui/test_traitsui.py

lint: $(INSTALLED)
	$(BIN)/codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# Every link to other sites. Needs a network, so no other target uses it.
linkcheck: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build -D plot_gallery=0 -b linkcheck docs docs/_build/linkcheck

screenshots: $(INSTALLED)  ## the pictures of the docs' page on widgets
	mkdir -p docs/_static/tools
	SPECML_SCREENSHOTS=$(CURDIR)/docs/_static/tools $(MAKE) test-gui

bench: $(INSTALLED)  ## NAME=lazy SIZE=512
	$(BIN)/python -m benchmarks $(NAME) $(if $(SIZE),--size $(SIZE))

release-check: $(INSTALLED)  ## as RELEASING.md says
	$(BIN)/pip install --quiet -c constraints.txt -e '.[release]'
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python .ci/release_check.py

clean:
	rm -rf .venv .venv-lowest .mypy_cache .pytest_cache .ruff_cache build dist docs/_build

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
