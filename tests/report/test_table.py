"""Tables and numbers for people."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.report.samples import diamond, diamond_plan
from tvm_dnnfusion.report import format as fmt
from tvm_dnnfusion.report.stats import statistics
from tvm_dnnfusion.report.table import plain, show, stats_table, table


def test_plain_columns_line_up_and_hold_no_drawing():
    text = plain(table("T", ("name", "n"), [("a", "1"), ("long name", "200")], right=(1,)))
    assert text == "T\nname         n\na            1\nlong name  200\n"


def test_a_pipe_gets_the_plain_form_and_a_terminal_the_drawn_one():
    data = table("T", ("name",), [("[bold]x[/bold]",)])
    pipe, terminal = io.StringIO(), io.StringIO()
    show(Console(file=pipe), data)
    show(Console(file=terminal, force_terminal=True, width=40), data)
    assert pipe.getvalue() == plain(data)
    assert "[bold]x[/bold]" in terminal.getvalue()
    assert "━" in terminal.getvalue()


def test_the_stats_table_shows_change_and_missing_baseline():
    net = diamond()
    data = stats_table(statistics(net, net, diamond_plan()))
    assert data.rows[1] == ("Kernels", "6", "-", "5", "-16.7 %")
    assert data.rows[2] == ("Intermediate bytes", "5.00 KiB", "-", "4.00 KiB", "-20.0 %")
    assert data.rows[3][-1] == "="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fmt.bytes_text(0), "0 B"),
        (fmt.bytes_text(1023), "1023 B"),
        (fmt.bytes_text(1536), "1.50 KiB"),
        (fmt.bytes_text(3 << 30), "3.00 GiB"),
        (fmt.flops_text(12), "12 FLOP"),
        (fmt.flops_text(4.1e9), "4.10 GFLOP"),
        (fmt.time_text(12.5), "12.50 µs"),
        (fmt.time_text(12500), "12.50 ms"),
        (fmt.time_text(2.5e6), "2.50 s"),
        (fmt.number_text("fused_us", 3), "3.00 µs"),
        (fmt.number_text("irs_bytes", 2048), "2.00 KiB"),
        (fmt.number_text("args", 65.0), "65"),
        (fmt.number_text("ratio", 0.12345), "0.1235"),
        (fmt.change_text(0, 5), "new"),
        (fmt.names_text(("a", "b", "c", "d"), 2), "a, b, +2"),
    ],
)
def test_numbers(text: str, expected: str):
    assert text == expected
