"""The vector forms on ARM, where limits are FMAX and FMIN, within the same bounds as elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import s_tir, te

from benchmarks import ulp
from tests.arm import CORE
from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.sessions import Program, Session
from tvm_dnnfusion.runtime.link import find_linker

PER_BINADE = 40
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, -3e38] * 2, "float32")


def _points() -> np.ndarray:
    x = np.concatenate([ulp.points(PER_BINADE), SPECIAL])
    return np.pad(x, (0, -x.size % 64)).astype("float32")


def _function(name: str, size: int) -> tvm.tirx.PrimFunc:
    x = te.placeholder((size,), "float32", "x")
    out = te.compute((size,), lambda i: ulp.call(name, x(i)), "out")
    sch = s_tir.Schedule(te.create_prim_func([x, out]))
    sch.vectorize(sch.split(sch.get_loops("out")[0], [None, 4])[1])
    return sch.mod["main"].with_attr("global_symbol", name)


@pytest.fixture(scope="module")
def functions(arm_session: Session, tmp_path_factory: pytest.TempPathFactory) -> Program:
    size = _points().size
    mod = tvm.IRModule({name: _function(name, size) for name in vecmath.ULP})
    path = tmp_path_factory.mktemp("functions") / "functions.so"
    built = tvm.compile(mod, tvm.target.Target(target_dict(CORE)))
    built.export_library(str(path), fcompile=find_linker("aarch64-linux-gnu"))
    return arm_session.load(path, plain=True)


@pytest.mark.parametrize("name", vecmath.ULP)
def test_errors_on_arm_and_what_is_no_number(functions: Program, name: str) -> None:
    x = _points()
    found = functions.run([x, np.zeros_like(x)], entry=name)[1]
    true = ulp.reference(name, x)
    finite = np.isfinite(x)
    error, tail = ulp.worst(name, x[finite], found[finite], true[finite])
    assert error <= vecmath.ULP[name] and tail <= 2.0**-22
    assert np.isnan(found[np.isnan(x)]).all()
