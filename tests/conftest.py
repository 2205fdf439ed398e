"""Options of the whole test run."""

from __future__ import annotations

import pytest

from tests.phone import arm_session, phone  # noqa: F401  # fixtures of all tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that tests ask `request.config` for."""
    parser.addoption("--update-golden", action="store_true",
                     help="write golden numbers anew instead of comparing with them")  # fmt: skip
    parser.addoption("--thorough", action="store_true",
                     help="hundreds of random graphs instead of a few dozen")  # fmt: skip
