"""Quotients and remainders of descending indices: another form, the same numbers."""

from __future__ import annotations

import pytest
import tvm_ffi
from tvm import tirx

from tvm_dnnfusion.codegen.negative import ascending

X, Y = tirx.Var("i", "int32"), tirx.Var("j", "int32")


def divisors(expr: object) -> list[int]:
    """The numbers that an expression divides by."""
    found: list[int] = []
    for kind in (tirx.FloorDiv, tirx.FloorMod):
        tvm_ffi.structural_walk(expr, [(kind, lambda e: found.append(int(e.b)))])
    return found


def at(expr: object, i: int, j: int) -> int:
    """The value of an expression, by Python's own floor division."""
    return eval(str(expr), {"i": i, "j": j})


@pytest.mark.parametrize("k", [1, 3, 4, 16])
@pytest.mark.parametrize("c", [0, 3, 16, 31, -5])
def test_a_descending_index_keeps_its_value(c: int, k: int):
    for expr in (
        (c - X) // k,
        (c - X) % k,
        (c - X * 3 - Y) // k,
        (c - X * 3 - Y) % k,
        (Y * k + c - X) // k,
        (Y * k + c - X) % k,
        ((c - X) // k) * 7 + (c - X) % k,
    ):
        new = ascending(expr)
        for i in range(20):
            for j in range(3):
                assert at(new, i, j) == at(expr, i, j), (expr, new)


def test_what_is_divided_no_longer_descends():
    new = ascending((31 - X) // 16 * 64 + (15 - X) % 16)
    assert str(new) == "(1 - i // 16) * 64 + (15 - i % 16)"
    assert all(k > 0 for k in divisors(new))


def test_an_ascending_index_is_left_alone():
    for expr in (X // 4, (X * 3 + Y) % 5, (X - Y) // 4, X * 4 - 1):
        assert ascending(expr) is expr or str(ascending(expr)) == str(expr)
