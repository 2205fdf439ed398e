"""Options of the whole test run."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.phone import arm_session, phone  # noqa: F401  # fixtures of all tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that tests ask `request.config` for."""
    parser.addoption("--update-golden", action="store_true",
                     help="write golden numbers anew instead of comparing with them")  # fmt: skip
    parser.addoption("--thorough", action="store_true",
                     help="new random examples, hundreds of graphs instead of dozens")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """The same examples in every run: a commit that passed passes again. `--thorough` draws new."""
    settings.register_profile("same", derandomize=True, database=None)
    if not config.getoption("--thorough"):
        settings.load_profile("same")
