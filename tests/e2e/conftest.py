"""One compilation per model, shared by the tests on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import onnx
import pytest

import tvm_dnnfusion
from tests import models
from tests.e2e.golden import Golden
from tvm_dnnfusion.api import Compiled
from tvm_dnnfusion.cost import AnalyticCost
from tvm_dnnfusion.schedules.dispatch import ScheduleWarning


@dataclass(frozen=True)
class Subject:
    """A model, what became of it, and the kernels whose schedule failed on the way."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    compiled: Compiled
    failed: tuple[str, ...]


def compiled_subject(name: str, model: onnx.ModelProto) -> Subject:
    """Compile a model for this machine, and note the warnings.

    The plan is that of the analytic cost, so that its numbers are the same on every machine.
    """
    analytic = patch("tvm_dnnfusion.pipeline.learned_cost", AnalyticCost)
    with warnings.catch_warnings(record=True) as caught, analytic:
        warnings.simplefilter("always", ScheduleWarning)
        made = tvm_dnnfusion.compile(model)
    failed = tuple(str(w.message) for w in caught if issubclass(w.category, ScheduleWarning))
    return Subject(name, model, models.inputs(name), made, failed)


@pytest.fixture(scope="module", params=models.model_names())
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each model in turn: pytest runs all tests on one before it builds the next."""
    yield compiled_subject(request.param, models.load(request.param))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden numbers, to compare with or to write."""
    return Golden(request.config.getoption("--update-golden"))
