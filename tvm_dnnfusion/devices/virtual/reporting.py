"""A virtual phone and the tracker that it reports to: asked before it starts, and once it runs.

A server whose tracker is absent tries again for ever and says nothing, so both are looked at here.
"""

from __future__ import annotations

import time
from collections import Counter

from tvm_dnnfusion.devices.virtual.errors import VirtualError

ASK_S = 5.0
REPORT_S = 20.0
"""Longest way of a phone that runs into its tracker's summary; below 1 s is usual."""
POLL_S = 0.1

Devices = Counter[tuple[str, int]]
"""How many devices a tracker has under (key, port)."""


def devices(place: str) -> Devices:
    """Those of the tracker at "HOST:PORT". Raises VirtualError where none answers."""
    from tvm_dnnfusion.devices.sessions import tracker
    from tvm_dnnfusion.devices.sessions.address import host_port
    from tvm_dnnfusion.devices.sessions.errors import UnreachableError

    host, port = host_port(place)
    try:
        return Counter(tracker.servers(host, port, ASK_S))
    except UnreachableError as error:
        raise VirtualError(f"no virtual phone can report to {place}: {error}") from error


def wait_for(place: str, key: str, port: int, before: Devices) -> None:
    """Until the tracker has one device more under the key and port than it had `before`.

    Raises VirtualError after `REPORT_S` seconds, and where the tracker has gone.
    """
    until = time.monotonic() + REPORT_S
    while True:
        found = devices(place)
        if found[key, port] > before[key, port]:
            return
        if time.monotonic() >= until:
            known = ", ".join(sorted({name for name, _ in found})) or "none"
            raise VirtualError(
                f"the virtual phone did not come to the tracker at {place} within {REPORT_S:g} s: "
                f"there is no device under the key {key!r} at port {port}; its keys: {known}"
            )
        time.sleep(POLL_S)
