"""The --input-shapes flag."""

from __future__ import annotations

import pytest

from tvm_dnnfusion.frontend.errors import InputShapeError
from tvm_dnnfusion.frontend.shapes import format_input_shapes, parse_input_shapes


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x:[1,3,224,224]", {"x": (1, 3, 224, 224)}),
        ("x:[1,3] y:[1, 10]", {"x": (1, 3), "y": (1, 10)}),
        ("x:[1], y:[2]", {"x": (1,), "y": (2,)}),
        ("gpu_0/data_0:[1]  input:0:[4,5]", {"gpu_0/data_0": (1,), "input:0": (4, 5)}),
        ("scalar:[]", {"scalar": ()}),
    ],
)
def test_reads(text: str, expected: dict[str, tuple[int, ...]]) -> None:
    assert parse_input_shapes(text) == expected
    assert parse_input_shapes(format_input_shapes(expected)) == expected


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        ("x", "cannot read 'x'"),
        ("x:1,3", "cannot read"),
        ("x:[1,3] y", "cannot read 'y'"),
        ("x:[1,n]", "'n' in the shape of x"),
        ("x:[1,-1]", "'-1' in the shape of x"),
        ("x:[1,0]", "'0' in the shape of x"),
        ("x:[1,,2]", "'' in the shape of x"),
        ("x:[1] x:[2]", "x is given twice"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(InputShapeError) as caught:
        parse_input_shapes(text)
    assert reason in str(caught.value)
    assert "--input-shapes" in caught.value.way_out
    assert caught.value.exit_code == 2
