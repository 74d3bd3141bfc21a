# demo: one read and one write, told and drawn.  lab: JupyterLab on the first notebook.  test: everything that CI checks.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)

.PHONY: demo lab test lock clean

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "labkit is tested on Python 3.11, and $(PYTHON) is another: set PYTHON=/path/to/python3.11"; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/ready
	$(BIN)/labkit run --op read --size 64KiB --fragmentation 1 --iommu strict
	$(BIN)/labkit run --op write --size 64KiB --fragmentation 1 --iommu strict
	@# exit code 3: this machine does not allow it; the sentence above says why, and what would help
	$(BIN)/labkit run --device loop --op read --size 64KiB --fragmentation 1 || test $$? -eq 3
	$(BIN)/labkit run --device loop --op write --size 64KiB --fragmentation 1 || test $$? -eq 3
	$(BIN)/labkit export -o first-io.html --size 256KiB --fragmentation 0.7
	@echo "Now open first-io.html in a browser, and press play."

lab: $(VENV)/ready
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.allow_root=True notebooks/00-start-here.ipynb

test: $(VENV)/ready
	@sh tests/browser/install-chromium.sh
	@sh tests/host/install-mkfs.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest
	$(BIN)/pytest --nbmake --nbmake-timeout=120 notebooks

lock:
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) first-io.html
