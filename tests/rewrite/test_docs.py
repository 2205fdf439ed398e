"""docs/rules.md says what the tables say; its costs are those of the paper's table 4."""

from __future__ import annotations

from pathlib import Path

from tvm_dnnfusion.rewrite import all_rules, rule_named
from tvm_dnnfusion.rewrite.docs import _costs, main, text

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"

# FLOPs as table 4 prints them: of number 1 and 3 to 7 for plain operands, sums counted once
PRINTED = {
    "recip-pair": "4mn → 4mn",
    "abs-chain": "4mn → 3mn",
    "sum-pair": "5mn → 3mn + m",
    "factor-out": "3mn → 2mn",
    "factor-plus-one": "2mn → 2mn",
    "square-minus-product": "5mn → 3mn",
    "swap-multiply": "mn → mn",
    "sum-of-shift": "2mn → mn + m",
    "prod-of-exp": "2mn → mn + m",
}


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == text(), "run python -m tvm_dnnfusion.rewrite.docs"


def test_counted_flops_equal_those_printed_in_table_4():
    assert {name: _costs(rule_named(name))[0] for name in PRINTED} == PRINTED


def test_the_page_is_written_where_it_is_asked_for(tmp_path):
    target = tmp_path / "rules.md"
    assert main([str(target)]) == 0
    written = target.read_text(encoding="utf-8")
    assert all(f"| {rule.name} " in written for rule in all_rules())
