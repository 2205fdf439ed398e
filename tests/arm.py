"""Code for A64 without a device: kernels under an ARM core's schedules, as LLVM's assembly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm

from tests.helpers import lowered, scheduled
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.devices.registry import get, spec_for_target, target_dict
from tvm_dnnfusion.ecg.graph import Graph

CORE = spec_for_target({**target_dict(get("cortex-a76")), "num-cores": 1})
BLOCKED = Layout(1, 4)

_LABEL = re.compile(r"^(\.L\w+):")
_JUMP = re.compile(r"^\t(?:b|b\.\w+|cbn?z|tbn?z)\t(?:.*, )?(\.L\w+)$")


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop, its jump back among them."""

    code: tuple[str, ...]

    def count(self, pattern: str) -> int:
        """Instructions that match a regular expression."""
        return sum(bool(re.match(pattern, x)) for x in self.code)

    @property
    def multiply_adds(self) -> int:
        return self.count(r"fml[as]\t")

    @property
    def by_lane(self) -> int:
        return self.count(r"fml[as]\tv\d+\.\w+, v\d+\.\w+, v\d+\.[sh]\[\d\]")

    @property
    def stack(self) -> int:
        """Instructions that read or write the stack: what did not fit the registers."""
        return sum("[sp" in x for x in self.code)


def assembly(graph: Graph, layouts: Mapping[str, Layout] | None = None, winograd: int = 0) -> str:
    """The graph as one scheduled kernel for a Cortex-A76."""
    func = scheduled(lowered(graph, layouts, CORE, winograd), CORE)
    mod = tvm.IRModule({"kernel": func.with_attr("global_symbol", "kernel")})
    return text_of(tvm.compile(mod, tvm.target.Target(target_dict(CORE))))


def text_of(built: Any) -> str:
    """LLVM's assembly of a built module."""
    return str(built.mod.inspect_source("asm"))


def innermost(text: str) -> list[Loop]:
    """Loops without another loop inside, in the order of the code."""
    lines = [x for x in text.splitlines() if x.startswith("\t") or _LABEL.match(x)]
    place = {m[1]: i for i, x in enumerate(lines) if (m := _LABEL.match(x))}
    spans = [
        (place[m[1]], i)
        for i, x in enumerate(lines)
        if (m := _JUMP.match(x)) and place.get(m[1], i) < i
    ]
    inner = [
        (a, b)
        for a, b in spans
        if not any((a, b) != (c, d) and a <= c and d <= b for c, d in spans)
    ]
    return [
        Loop(tuple(x.strip() for x in lines[a : b + 1] if re.match(r"\t[a-z]", x)))
        for a, b in inner
    ]


def products(text: str) -> list[Loop]:
    """The innermost loops of register tiles: eight multiply-adds or more."""
    return [x for x in innermost(text) if x.multiply_adds >= 8]
