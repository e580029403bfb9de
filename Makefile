# Commands for users: `make demo`, `make test` and `make docs`. They set up .venv themselves; none needs root.
# On Linux without a GPU, point torch at PyTorch's CPU wheels: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH ?= torch>=2.13
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test soak golden bench gpu-check lint docs clean

demo: .venv/installed  ## three acts on data that ship here, in one page: runs/demo/index.html
	$(BIN)/python examples/demo.py --output runs/demo

test: .venv/tested lint  ## lint, types and the test suite; files stay whole where they can, for what their tests share
	$(BIN)/python -m pytest -n 2 --dist worksteal

soak: .venv/tested  ## the full counts of the fault and law tests
	$(BIN)/python -m pytest -m soak --timeout 7200

golden: .venv/tested  ## what this working tree computes, bit for bit against the commit BASE: make golden BASE=main
	$(BIN)/python benchmarks/golden.py $(BASE)

bench: .venv/tested  ## the speed of everything, beside transformers; QUICK=--quick has fewer cases and rounds
	$(BIN)/python benchmarks/bench.py $(QUICK) --json benchmarks/results/speed.json

gpu-check: .venv/installed  ## flash-attn and varlen_attn against the reference, where a GPU is
	$(BIN)/python benchmarks/gpu_check.py

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/tested  ## the documentation site, in build/site
	$(BIN)/python docs/build.py --output build/site

# torch first and alone, so that nothing else decides which build is taken; a wheel that pip already has at hand
# (PIP_FIND_LINKS) is preferred to a download.
.venv/torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "maskseq needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	-$(PIP) install -q --no-index --no-deps "$(TORCH)" 2>/dev/null
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	touch $@

.venv/installed: .venv/torch pyproject.toml
	$(PIP) install -q -e '.[genomics,events,signals]'
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["test"], sep="\n")' > .venv/test-requirements.txt
	$(PIP) install -q -r .venv/test-requirements.txt
	touch $@

clean:
	rm -rf .venv runs build dist
