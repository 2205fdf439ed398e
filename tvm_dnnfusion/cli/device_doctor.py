"""`dnnfusion devices doctor`: what is reachable, what is wrong, and how to mend it."""

from __future__ import annotations

import click

from tvm_dnnfusion.cli import device_checks, options, ranges
from tvm_dnnfusion.cli.doctor import emit_lines
from tvm_dnnfusion.cli.place import address_of
from tvm_dnnfusion.devices.sessions.address import FORMS, host_port, parse


@click.command("doctor")
@click.option(
    "--device", "devices", multiple=True, metavar="ADDRESS",
    help=f"A device to look at, may be given again: {FORMS}. Default: the virtual phones that run.",
)  # fmt: skip
@click.option(
    "--rpc-tracker",
    metavar="HOST:PORT",
    help="A tracker of the device to look at; without --rpc-key: what keys and devices it has.",
)
@click.option("--rpc-key", metavar="KEY", help="The key that the tracker knows it under.")
@click.option(
    "--timeout",
    type=ranges.LIMIT_S,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for each answer so long.",
)
@click.option("--android", is_flag=True, help="The devices run Android.")
@options.common
def doctor(
    devices: tuple[str, ...],
    rpc_tracker: str | None,
    rpc_key: str | None,
    timeout: float,
    android: bool,
    as_json: bool,
) -> int:
    """Check the way to devices: ok, warn or fail per line, and how to mend it.

    Each device is connected to, asked what it is, and made to run a small kernel that is compiled
    for it. Exits with 3 when something is broken; warnings do not count.
    """
    named = [parse(text) for text in devices]
    tracker = host_port(rpc_tracker) if rpc_tracker is not None and rpc_key is None else None
    behind = None if tracker else address_of(None, rpc_tracker, rpc_key)
    addresses = [*named, *([behind] if behind else [])]
    if not addresses and tracker is None:
        addresses = list(device_checks.running_phones())
    system = "android" if android else "gnu"
    return emit_lines(device_checks.all_checks(addresses, timeout, system, tracker), as_json)
