"""Schedules for instruction sets: taken where the device has them, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.arm import CORE
from tests.helpers import built, lowered
from tvm_dnnfusion.schedules import dispatch
from tvm_dnnfusion.schedules.cpu.maps import map_block


def test_a_schedule_for_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_FEATURED", {})
    seen: list[str] = []

    def special(kernel: Any) -> None:
        seen.append(kernel.device.name)
        map_block(kernel)

    dispatch.register_schedule("cpu", "map", special, feature="i8mm")
    kernel = lowered(built(lambda b: b.op("exp", b.input("x", (64, 64)))), device=CORE)
    dispatch.schedule_kernel(kernel.func, CORE)
    assert "i8mm" not in CORE.features and not seen
    other = replace(CORE, name="other", features=(*CORE.features, "i8mm"))
    dispatch.schedule_kernel(kernel.func, other)
    assert seen == ["other"]
