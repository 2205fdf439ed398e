"""Environment variables: defaults, precedence, and refusals that name the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_dnnfusion import settings
from tvm_dnnfusion.settings import Debug, SettingsError


def test_an_empty_environment_gives_defaults() -> None:
    found = settings.read({})
    assert (found.threads, found.threads_source, found.debug) == (None, None, Debug.QUIET)
    assert found.cache == Path.home() / ".cache" / "tvm-dnnfusion"


def test_our_thread_count_wins_over_tvms() -> None:
    both = settings.read({"DNNFUSION_THREADS": "3", "TVM_NUM_THREADS": "7"})
    assert (both.threads, both.threads_source) == (3, "DNNFUSION_THREADS")
    theirs = settings.read({"TVM_NUM_THREADS": "7"})
    assert (theirs.threads, theirs.threads_source) == (7, "TVM_NUM_THREADS")


def test_cache_folder_and_its_fallback() -> None:
    assert settings.read({"DNNFUSION_CACHE": "/a/b"}).cache == Path("/a/b")
    assert settings.read({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/tvm-dnnfusion")


@pytest.mark.parametrize("level", list(Debug))
def test_the_debug_ladder(level: Debug) -> None:
    assert settings.read({"DNNFUSION_DEBUG": str(level.value)}).debug is level


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DNNFUSION_THREADS", "0"),
        ("DNNFUSION_THREADS", "two"),
        ("TVM_NUM_THREADS", "-1"),
        ("DNNFUSION_DEBUG", "4"),
        ("DNNFUSION_DEBUG", "yes"),
    ],
)
def test_a_meaningless_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.read({name: value})


def test_threads_are_exported_under_tvms_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNNFUSION_THREADS", raising=False)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    settings.export_threads(5)
    assert settings.read().threads == 5
