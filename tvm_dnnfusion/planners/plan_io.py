"""Plans as JSON: read, write, and refuse what is no plan.

The text of a plan is the same whenever the plan is; enums are written by name. A file appears whole
or not at all. Whether a plan fits a graph is asked in `check.py`.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.plan import (
    Block,
    BlockMemory,
    EdgeDecision,
    LineBuffer,
    Place,
    Plan,
    PlanMemory,
    Reason,
)

FORMAT = 1
"""Version of the form below; a reader refuses others."""


class PlanError(ValueError):
    """A plan that is not well formed, or is not one for the graph; the message names the ops."""


def plan_to_json(plan: Plan) -> str:
    """The plan as JSON text, ending in a newline."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "planner": plan.planner,
        "device": plan.device,
        "fingerprint": plan.fingerprint,
        **({} if plan.memory is None else {"memory": asdict(plan.memory)}),
        "blocks": [_block(b) for b in plan.blocks],
        "decisions": [_decision(d) for d in plan.decisions],
        "places": [_place(p) for p in plan.places],
    }
    return json.dumps(data, indent=1) + "\n"


def plan_from_json(text: str) -> Plan:
    """The plan in a JSON text.

    Raises
    ------
    PlanError
        When it is not JSON, lacks a field, has a field of another kind or an unknown code; the
        message says where.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(f"the plan is not JSON: line {error.lineno}: {error.msg}") from None
    root = _Reader(data, "plan")
    if root.value("format", int) != FORMAT:
        raise PlanError(f"plan.format is {root.value('format', int)}; this version reads {FORMAT}")
    return Plan(
        planner=root.value("planner", str),
        fingerprint=root.value("fingerprint", str),
        blocks=tuple(_read_block(item) for item in root.items("blocks")),
        decisions=tuple(_read_decision(item) for item in root.items("decisions")),
        device=root.value("device", str),
        places=tuple(_read_place(item) for item in root.items("places")),
        memory=_read_memory(root),
    )


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan to a file, whole or not at all. Raises OSError where it cannot be written."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(plan_to_json(plan))
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan in a file. Raises OSError, or PlanError with the file's name."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        return plan_from_json(text)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _block(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "ops": list(block.ops),
        "mapping": None if block.mapping is None else block.mapping.name,
        "seed": block.seed,
        **({} if block.memory is None else {"memory": asdict(block.memory)}),
    }


def _place(place: Place) -> dict[str, Any]:
    return {"tensor": place.tensor, "buffer": place.buffer, "start": list(place.start)}


def _decision(decision: EdgeDecision) -> dict[str, Any]:
    return {
        "producer": decision.producer,
        "consumer": decision.consumer,
        "fused": decision.fused,
        "reason": decision.reason.name,
        "numbers": dict(decision.numbers),
        "source": decision.source,
        **({"ops": list(decision.ops)} if decision.ops else {}),
    }


def _read_block(item: _Reader) -> Block:
    mapping = item.optional("mapping")
    return Block(
        name=item.value("name", str),
        ops=tuple(item.strings("ops")),
        mapping=None if mapping is None else item.code("mapping", MappingType),
        seed=item.optional("seed"),
        memory=_read_block_memory(item),
    )


def _read_memory(root: _Reader) -> PlanMemory | None:
    item = root.part("memory")
    if item is None:
        return None
    return PlanMemory(
        model=item.value("model", str),
        accounting=item.value("accounting", str),
        buffer_bytes=item.value("buffer_bytes", int),
        word_bytes=item.value("word_bytes", int),
        batch=item.value("batch", int),
        accelerator=item.value("accelerator", str),
    )


def _read_block_memory(block: _Reader) -> BlockMemory | None:
    item = block.part("memory")
    if item is None:
        return None
    lines = tuple(
        LineBuffer(line.value("tensor", str), line.value("rows", int), line.value("channels", int),
                   line.value("bytes", int))
        for line in item.items("lines")
    )  # fmt: skip
    return BlockMemory(
        layers=tuple(item.strings("layers")),
        tile_rows=item.value("tile_rows", int),
        tiles=item.value("tiles", int),
        images=item.value("images", int),
        resident=item.value("resident", bool),
        buffer_bytes=item.value("buffer_bytes", int),
        dram_bytes=item.number("dram_bytes"),
        energy=item.number("energy"),
        lines=lines,
    )


def _read_decision(item: _Reader) -> EdgeDecision:
    return EdgeDecision(
        producer=item.value("producer", str),
        consumer=item.value("consumer", str),
        fused=item.value("fused", bool),
        reason=item.code("reason", Reason),
        numbers=tuple(item.numbers("numbers").items()),
        source=item.value("source", str),
        ops=tuple(item.strings("ops")) if "ops" in item.data else (),
    )


def _read_place(item: _Reader) -> Place:
    return Place(
        tensor=item.value("tensor", str),
        buffer=item.value("buffer", str),
        start=tuple(item.integers("start")),
    )


class _Reader:
    """A JSON object whose fields are asked for by name and kind; errors say where."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise PlanError(f"{where} is {_kind(data)}, not an object")
        self.data, self.where = cast("dict[str, Any]", data), where

    def value(self, key: str, kind: type[Any]) -> Any:
        """The field, of exactly that kind (a bool is no int)."""
        if key not in self.data:
            raise PlanError(f"{self.where} has no field {key!r}")
        found = self.data[key]
        if type(found) is not kind:
            raise PlanError(f"{self.where}.{key} is {_kind(found)}, not {kind.__name__}")
        return found

    def number(self, key: str) -> float:
        """A finite number."""
        return self._number(key, self.data.get(key))

    def part(self, key: str) -> _Reader | None:
        """An object, or None where the field is null or absent."""
        found = self.data.get(key)
        return None if found is None else _Reader(found, f"{self.where}.{key}")

    def optional(self, key: str) -> str | None:
        """A text, or None where the field is null or absent."""
        return None if self.data.get(key) is None else str(self.value(key, str))

    def code(self, key: str, codes: Any) -> Any:
        """A member of an enum, by its name."""
        name = self.value(key, str)
        if name not in codes.__members__:
            known = ", ".join(codes.__members__)
            raise PlanError(f"{self.where}.{key} is {name!r}; known: {known}")
        return codes[name]

    def items(self, key: str) -> list[_Reader]:
        """A list of objects."""
        found = self.value(key, list)
        return [_Reader(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(found)]

    def strings(self, key: str) -> list[str]:
        """A list of texts."""
        found = self.value(key, list)
        for i, item in enumerate(found):
            if not isinstance(item, str):
                raise PlanError(f"{self.where}.{key}[{i}] is {_kind(item)}, not str")
        return list(found)

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers."""
        found = self.value(key, list)
        for i, item in enumerate(found):
            if type(item) is not int:
                raise PlanError(f"{self.where}.{key}[{i}] is {_kind(item)}, not int")
        return list(found)

    def numbers(self, key: str) -> Mapping[str, float]:
        """An object whose values are finite numbers."""
        found: dict[str, Any] = self.value(key, dict)
        return {name: self._number(f"{key}.{name}", item) for name, item in found.items()}

    def _number(self, key: str, item: Any) -> float:
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        if not number or not math.isfinite(item):
            raise PlanError(f"{self.where}.{key} is {item!r}, not a finite number")
        return float(item)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
