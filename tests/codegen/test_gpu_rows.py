"""How many work-items of a GPU fold a row: the rule over a grid of rows and lengths."""

from __future__ import annotations

import itertools

import pytest

from tvm_dnnfusion.codegen.gpu_rows import MOST_ITEMS, ROW_ITEMS, meeting, row_items
from tvm_dnnfusion.devices.registry import get, host

DEVICES = ("mali-g76", "adreno-650")
ROWS = [2**k for k in range(16)]
LENGTHS = [2**k for k in range(3, 20)]


@pytest.mark.parametrize("name", DEVICES)
def test_items_grow_with_the_length_and_fall_with_the_rows(name: str) -> None:
    device = get(name)
    for rows in ROWS:
        found = [row_items(device, rows, n, 4) for n in LENGTHS]
        assert found == sorted(found), rows
    for n in LENGTHS:
        found = [row_items(device, rows, n, 4) for rows in ROWS]
        assert found == sorted(found, reverse=True), n


@pytest.mark.parametrize("name", DEVICES)
def test_the_ends_of_the_grid(name: str) -> None:
    device = get(name)
    assert row_items(device, 1, 32000, 4) == row_items(device, 1, 3 * 224 * 224, 4) == MOST_ITEMS
    assert row_items(device, 2**15, 128, 4) == ROW_ITEMS
    assert row_items(device, 1, 8, 4) == row_items(host(), 1, 32000, 4) == 1


@pytest.mark.parametrize("name", DEVICES)
def test_items_have_two_vectors_each_and_fit_a_group(name: str) -> None:
    device = get(name)
    limit = device.gpu.work_group if device.gpu is not None else 0
    for rows, extent, lanes in itertools.product((1, 3, 7, 197, 1000), range(1, 3000, 37), (4, 8)):
        items = row_items(device, rows, extent, lanes)
        assert items & (items - 1) == 0 and 1 <= items <= min(MOST_ITEMS, limit)
        assert items == 1 or -(-extent // lanes) >= 2 * items


def test_a_group_of_one_row_fills_a_wave() -> None:
    """Rows of a prime number share no group: eight items would leave 56 of a wave of 64 idle."""
    assert row_items(get("adreno-650"), 197, 768, 4) == 64


def test_many_results_meet_in_two_folds_of_about_the_same_length() -> None:
    assert meeting(ROW_ITEMS * 4) == 0
    for results in (64, 128, 256, 512, 1024, 2048):
        middle = meeting(results)
        assert results % middle == 0 and max(middle, results // middle) <= 2 * results**0.5
