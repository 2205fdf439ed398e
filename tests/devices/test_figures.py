"""Peak and bandwidth of the host: estimated, measured, kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_dnnfusion.devices import figures, registry
from tvm_dnnfusion.devices.figures import Figures


def test_a_guests_clock_is_at_least_the_typical_one_of_its_cpu() -> None:
    assert figures.clock_ghz(2.6, "znver4", guest=True) == 3.55
    assert figures.clock_ghz(4.5, "znver4", guest=True) == 4.5
    assert figures.clock_ghz(2.6, "znver4", guest=False) == 2.6
    assert figures.clock_ghz(2.6, "unheard-of", guest=True) == 2.6


def test_the_estimate_grows_with_the_cores_until_a_desktops_memory_is_full() -> None:
    assert figures.estimated(2, 3.55, 32) == Figures(2, 227.2, 30.0)
    assert figures.estimated(16, 3.0, 32).bandwidth_gbs == figures.MOST_GBS


def test_what_was_measured_is_kept_by_device_and_cores(tmp_path: Path) -> None:
    assert figures.load("a", 2, tmp_path) is None
    figures.save("a", Figures(2, 230.5, 28.0), tmp_path)
    figures.save("b", Figures(4, 100.0, 10.0), tmp_path)
    assert figures.load("a", 2, tmp_path) == Figures(2, 230.5, 28.0)
    assert figures.load("a", 1, tmp_path) is None
    assert figures.load("b", 4, tmp_path) == Figures(4, 100.0, 10.0)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 3}', '{"a": {"cores": 2}}',
             '{"a": {"cores": 2, "peak_gflops": 0, "bandwidth_gbs": 1}}'],
)  # fmt: skip
def test_a_file_that_says_nothing_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / figures.FILE_NAME).write_text(text)
    assert figures.load("a", 2, tmp_path) is None
    figures.save("a", Figures(2, 1.0, 1.0), tmp_path)
    assert figures.load("a", 2, tmp_path) is not None


def test_the_host_takes_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path))
    try:
        registry.host.cache_clear()
        before = registry.host()
        assert before.bandwidth_gbs == min(before.cores * figures.CORE_GBS, figures.MOST_GBS)
        figures.save(before.name, Figures(before.cores, 123.4, 56.7))
        registry.host.cache_clear()
        assert (registry.host().peak_gflops, registry.host().bandwidth_gbs) == (123.4, 56.7)
    finally:
        monkeypatch.undo()
        registry.host.cache_clear()
