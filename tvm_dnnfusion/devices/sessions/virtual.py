"""Where the virtual phone listens, once `dnnfusion devices virtual up` has started it."""

from __future__ import annotations

from tvm_dnnfusion.devices.sessions.address import RPC, Address
from tvm_dnnfusion.devices.sessions.errors import UnreachableError
from tvm_dnnfusion.devices.virtual import process


def address() -> Address:
    """The address of its RPC server.

    Raises UnreachableError where it is not running, with those of other names that are.
    """
    phone = process.running()
    if phone is None:
        others = process.all_running()
        named = ", ".join(f"{p.name} (--device {Address(RPC, p.host, p.port)})" for p in others)
        raise UnreachableError(
            "the virtual phone is not running: dnnfusion devices virtual up"
            + (f". Of other names there are: {named}" if named else "")
        )
    return Address(RPC, phone.host, phone.port)
