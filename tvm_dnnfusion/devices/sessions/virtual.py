"""Where the virtual phone listens, once `dnnfusion devices virtual up` has started it."""

from __future__ import annotations

from tvm_dnnfusion.devices.sessions.address import RPC, Address
from tvm_dnnfusion.devices.sessions.errors import UnreachableError
from tvm_dnnfusion.devices.virtual import process


def address() -> Address:
    """The address of its RPC server. Raises UnreachableError where it is not running."""
    phone = process.running()
    if phone is None:
        raise UnreachableError("the virtual phone is not running: dnnfusion devices virtual up")
    return Address(RPC, phone.host, phone.port)
