"""docs/relay.md says what the tables say, and names what there is."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import tvm
from tvm import relax

from tvm_dnnfusion.relay.docs import main, text
from tvm_dnnfusion.relay.docs_text import CHANGES
from tvm_dnnfusion.relay.table import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "relay.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == text(), "run python -m tvm_dnnfusion.relay.docs"


def test_every_operator_has_its_line():
    lines = text().splitlines()
    for name in TABLE:
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1
    assert all(line.count("|") >= 3 for line in lines if line.startswith("|"))


def test_names_of_relax_in_the_page_exist():
    import_module("tvm.relax.frontend.onnx")
    roots = {"relax": relax, "tvm": tvm}
    named = set(re.findall(r"\b((?:relax|tvm)\.[a-zA-Z0-9_.]+)", text()))
    old = {"relax.nn.conv2d", "tvm.ir.load_json", "tvm.ir.save_json", "tvm.nd.array", "tvm.ir"}
    named -= {name for name in named if name.startswith("relax.frontend.torch")}  # needs PyTorch
    for name in sorted(named - old):
        found = roots[name.split(".")[0]]
        for part in name.rstrip(".").split(".")[1:]:
            assert hasattr(found, part), f"{name} is in the page and not in TVM"
            found = getattr(found, part)


def test_the_relax_column_names_operators_of_relax():
    free = {"a constant", "its operand", "..."}
    for entry in TABLE.values():
        for word in re.split(r"[,;] ?", entry.relax):
            name = word.removeprefix("as ").split(" of ")[0].strip()
            if name in free or name.startswith("qnn."):
                continue
            found = relax.op
            for part in name.split("."):
                assert hasattr(found, part), f"{entry.relay}: {name}"
                found = getattr(found, part)


def test_each_api_is_said_once():
    assert len({old for old, _ in CHANGES}) == len(CHANGES) > 20


def test_the_page_is_written_where_it_is_asked_for(tmp_path):
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == text()
