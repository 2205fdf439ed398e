"""Where the virtual phone listens, once `dnnfusion devices virtual up` has started it."""

from __future__ import annotations

from tvm_dnnfusion.devices.sessions.address import Address
from tvm_dnnfusion.devices.sessions.errors import UnreachableError


def address() -> Address:
    """The address of its RPC server. Raises UnreachableError where it is not running."""
    raise UnreachableError("the virtual phone is not running: dnnfusion devices virtual up")
