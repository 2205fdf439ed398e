# Every target makes its own virtual environment in .venv, from nothing but python3 and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
DEMO_MODEL ?= squeezenet
THREADS ?= 2

# Tests that run on the virtual phone.
ARM_TESTS := tests/devices/virtual tests/devices/armv7 tests/ondevice tests/codegen/test_vecmath_arm.py \
	tests/schedules/test_neon_counts.py tests/tuning/test_remote.py

.PHONY: demo test arm lint format docs bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[verify]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[verify,dev]'
	touch $@ $(VENV)/run.stamp

# One of the nine light models, with random weights, through optimize, verify and bench.
demo: $(VENV)/run.stamp
	mkdir -p $(BUILD)/demo
	$(BIN)/python -m benchmarks.models $(DEMO_MODEL) --output $(BUILD)/demo/$(DEMO_MODEL).onnx
	$(BIN)/dnnfusion optimize $(BUILD)/demo/$(DEMO_MODEL).onnx --output $(BUILD)/demo/$(DEMO_MODEL)
	$(BIN)/dnnfusion verify $(BUILD)/demo/$(DEMO_MODEL).onnx --library $(BUILD)/demo/$(DEMO_MODEL)
	$(BIN)/dnnfusion bench $(BUILD)/demo/$(DEMO_MODEL) --top 10
	@echo "The report: $(BUILD)/demo/$(DEMO_MODEL)/report.html"

# Tests on ARM need the virtual phone; without network they are skipped, and say so.
test: $(VENV)/dev.stamp
	-$(BIN)/dnnfusion devices virtual install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests

# The virtual phone from nothing, and all tests that run on it.
arm: $(VENV)/dev.stamp
	$(BIN)/dnnfusion devices virtual install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARM_TESTS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/run.stamp
	$(BIN)/python -m tvm_dnnfusion.rewrite.docs docs/rules.md
	$(BIN)/python -m tvm_dnnfusion.relay.docs docs/relay.md
	$(BIN)/python -m benchmarks.ulp docs/numerics.md

bench: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.latency --threads $(THREADS) --output $(BUILD)/latency

clean:
	rm -rf $(BUILD) $(VENV)
