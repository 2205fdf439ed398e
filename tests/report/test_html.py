"""The report page: whole, self-contained, escaped, and true to its data."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

from tests.report.samples import diamond, diamond_plan, graph, network, op
from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Plan, Reason
from tvm_dnnfusion.report.data import Check, KernelTime, ReportData, RuleLine
from tvm_dnnfusion.report.html import POLICY, render
from tvm_dnnfusion.report.markup import VOID, Markup, join, script_data, tag
from tvm_dnnfusion.report.stats import statistics

EVIL = '</script><img src=x onerror="alert(1)">&\'"'


def data(**changes: object) -> ReportData:
    net, plan = diamond(), diamond_plan()
    base = ReportData("model.onnx", plan, net, statistics(net, net, plan))
    return dataclasses.replace(base, **changes)


class Reader(HTMLParser):
    """Elements and text of a page; fails on end tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, name, attrs):
        self.tags.append((name, dict(attrs)))
        if name not in VOID:
            self.stack.append(name)

    def handle_endtag(self, name):
        assert self.stack.pop() == name

    def handle_data(self, text):
        self.text.append(text)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.stack == []
    return reader


def block_data(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="blocks">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_the_page_loads_nothing():
    page = render(data())
    for name, attrs in read(page).tags:
        assert name not in ("link", "iframe", "object", "embed", "img")
        assert "src" not in attrs
        assert (attrs.get("href") or "#").startswith("#")
    assert POLICY in (a.get("content") for _, a in read(page).tags)
    assert not re.search(r"url\((?!#)|@import|https?://", page)


def test_every_block_is_a_node_and_a_row():
    net, plan = network(60)
    page = render(ReportData("m", plan, net, statistics(net, net, plan)))
    nodes = [a["data-block"] for n, a in read(page).tags if n == "g" and "data-block" in a]
    assert nodes == [b.name for b in plan.blocks]
    rows = set(re.findall(r'<code><a href="#graph-section" data-block="([^"]+)">\1</a>', page))
    assert rows == {b.name for b in plan.blocks}
    assert set(block_data(page)) == set(nodes)


def test_blocks_are_coloured_by_mapping_type():
    page = render(data())
    classes = {
        a["data-block"]: a["class"] for n, a in read(page).tags if n == "g" and "data-block" in a
    }
    assert classes["b000_conv2d_relu"] == "node many-many"
    assert classes["b001_exp"] == "node one"
    assert classes["b004_reshape"] == "node reorganize view"


def test_unfused_edges_are_listed_with_reason_and_figures_and_fused_ones_are_not():
    page = render(data())
    rows = re.findall(r'<tr data-reason="(\w+)">', page)
    assert rows == ["NO_PROFIT", "NO_PROFIT", "TAKEN", "TAKEN", "ESCAPES", "RED"]
    assert "fused_us = 31.25 µs, apart_us = 25.00 µs" in page
    assert len(block_data(page)["b000_conv2d_relu"]["edges"]) == 2


def test_kernels_are_sorted_by_time_and_unknown_ones_follow():
    times = (
        KernelTime("b001_exp", 1, 10.0),
        KernelTime("b003_add", 1, 90.0),
        KernelTime("vm.copy", 3, 50.0),
    )
    page = render(data(kernels=times))
    order = [page.index(f">{name}</") for name in ("b003_add", "b001_exp", "vm.copy")]
    table = page.index("Kernels by time")
    tail = [page.index(f"{name}</", table) for name in ("b003_add", "b001_exp", "vm.copy")]
    assert tail == sorted(tail)
    assert len(order) == 3
    assert "width:100.0%" in page
    assert "60.0 %" in page
    assert "3 calls" in page


def test_rules_checks_and_facts_are_shown():
    page = render(
        data(
            rules=(RuleLine("fold_bn", 53), RuleLine("quiet", 0, near_miss="two readers")),
            checks=(Check("ONNX Runtime", "y", False, "max abs 0.3"),),
            facts=(("Target", "llvm"),),
        )
    )
    for words in ("fold_bn", "53", "two readers", "FAILED", "max abs 0.3", "llvm"):
        assert words in page


def test_names_from_the_model_cannot_become_markup():
    ops = [op("o", EVIL, ("x",), origins=(EVIL,)), op("p", "exp", ("o:0",), origins=(EVIL + "2",))]
    net = graph(ops, ("p:0",))
    plan = Plan(
        "p",
        "0",
        (Block("k" + EVIL, ("o",), ops[0].mapping), Block("l", ("p",), None)),
        (EdgeDecision("o", "p", False, Reason.RED),),
    )
    full = ReportData(
        EVIL,
        plan,
        net,
        statistics(net, net, plan),
        ((EVIL, EVIL),),
        (RuleLine(EVIL, 1, EVIL), RuleLine("r", 0, near_miss=EVIL)),
        (KernelTime(EVIL, 1, 1.0),),
        (Check(EVIL, EVIL, True, EVIL),),
    )
    page = render(full)
    assert "<img" not in page
    assert all("onerror" not in attrs for _, attrs in read(page).tags)
    assert EVIL in block_data(page)["k" + EVIL]["ops"][0]


def test_the_same_data_gives_the_same_page():
    assert render(data()) == render(data())


def test_a_plan_that_fused_everything_has_no_edge_table():
    ops = [op("a", "exp", ("x",)), op("b", "exp", ("a:0",))]
    net = graph(ops, ("b:0",))
    plan = Plan(
        "p",
        "0",
        (Block("k", ("a", "b"), ops[0].mapping),),
        (EdgeDecision("a", "b", True, Reason.FUSED_GREEN),),
    )
    page = render(ReportData("m", plan, net, statistics(net, net, plan)))
    assert "Every edge of the graph was fused." in page
    assert 'id="edge-table"' not in page


def test_tags_escape_text_and_attributes_but_not_markup():
    cell = tag("td", "<b>", Markup("<i>"), None, class_='"')
    assert cell == '<td class="&quot;">&lt;b&gt;<i></td>'
    assert tag("input", disabled=True, value=None) == "<input disabled>"
    assert tag("path", data_from="a", viewBox="0") == '<path data-from="a" viewBox="0"></path>'
    assert join("a<", Markup("<br>")) == "a&lt;<br>"


def test_script_data_cannot_end_its_element_and_reads_back():
    text = script_data("x", {"a": "</script><!--"})
    assert text.count("</script>") == 1
    assert json.loads(text[text.index(">") + 1 : text.rindex("</")]) == {"a": "</script><!--"}
