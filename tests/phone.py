"""The virtual phone for tests: the fixtures `phone` and `arm_session`.

One phone serves a process of the test run. Where it is not installed the tests that need it are
skipped: `dnnfusion devices virtual install` downloads it, and `make test` calls that first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tvm_dnnfusion.devices.sessions import Session
from tvm_dnnfusion.devices.virtual import emulator, install, process

COUNTS = emulator.c_compiler() is not None


def require_phone() -> None:
    """Skip the test where there is no virtual phone; with DNNFUSION_REQUIRE_PHONE it fails."""
    if install.installed() is None:
        missing = pytest.fail if os.environ.get("DNNFUSION_REQUIRE_PHONE") else pytest.skip
        missing("the virtual phone is not installed: dnnfusion devices virtual install")


@pytest.fixture(scope="session")
def phone() -> Iterator[process.Phone]:
    """A phone of this test run's own; it counts instructions where a compiler is there."""
    require_phone()
    name = f"test-{os.getpid()}"
    yield process.up(process.Wish(name, counts=COUNTS))
    process.down(name)


@pytest.fixture(scope="module")
def arm_session(phone: process.Phone) -> Iterator[Session]:
    """A session with that phone, closed after each file of tests: it serves one at a time."""
    with Session(f"rpc://{phone.host}:{phone.port}") as opened:
        yield opened


needs_counts = pytest.mark.skipif(not COUNTS, reason="counting instructions needs a C compiler")
