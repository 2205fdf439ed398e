"""`dnnfusion devices`: what can be compiled for, what can be reached, and the virtual phone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.android_setup import setup_android
from tvm_dnnfusion.cli.device_doctor import doctor
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.devices.virtual import emulator, process
from tvm_dnnfusion.devices.virtual.install import install, installed
from tvm_dnnfusion.report.table import table


@click.group("devices")
def command() -> None:
    """Devices: those that models are compiled for, and those that run them."""


command.add_command(doctor)
command.add_command(setup_android)


@command.command("list")
@options.common
def list_devices(as_json: bool) -> None:
    """Devices to compile for (--target), and the virtual phones that run."""
    specs = [registry.get(name) for name in registry.names()]
    phones = process.all_running()
    data = {
        "devices": [_facts(spec) for spec in specs],
        "virtual": {"installed": str(installed() or ""), "running": [asdict(p) for p in phones]},
    }
    rows = [
        (spec.name, spec.kind, str(spec.cores), _limits(spec), spec.title or _mcpu(spec))
        for spec in specs
    ]
    columns = ("name", "kind", "cores", "vectors, caches or limits", "what it is")
    Output(as_json).emit(data, table("Devices", columns, rows, right=(2,)), _virtual(phones))


def _facts(spec: DeviceSpec) -> dict[str, Any]:
    return {**asdict(spec), "target": registry.target_dict(spec), "host": dict(spec.host)}


def _limits(spec: DeviceSpec) -> str:
    if spec.gpu is not None:
        half = ", fp16" if spec.fp16 else ""
        local = _size(spec.gpu.local_bytes)
        return f"groups of {spec.gpu.work_group}, local {local}, wave {spec.gpu.wave}{half}"
    half = ", fp16" if spec.fp16 else ""
    sizes = [_size(n) for n in (spec.l1_bytes, spec.l2_bytes, spec.l3_bytes) if n]
    return f"{spec.vector_registers} x {spec.vector_bits} bits, {'/'.join(sizes)}{half}"


def _size(count: int) -> str:
    """Sizes of caches are powers of two in the main: "64K", "2M"."""
    return f"{count >> 20}M" if count % (1 << 20) == 0 else f"{count >> 10}K"


def _mcpu(spec: DeviceSpec) -> str:
    return str(registry.target_dict(spec).get("mcpu", ""))


def _virtual(phones: list[process.Phone]) -> str:
    if phones:
        return "\n".join(map(_line, phones))
    return f"virtual phone: {'installed, ' if installed() else ''}not running"


def _line(phone: process.Phone) -> str:
    counting = ", counts instructions" if phone.counts else ""
    tracker = f", at tracker {phone.tracker} as {phone.key}" if phone.tracker else ""
    return (
        f"virtual phone {phone.name}: {phone.cpu} at rpc://{phone.host}:{phone.port}"
        f"{counting}{tracker}"
    )


@command.group("virtual")
def virtual() -> None:
    """The virtual phone: an emulated ARM machine with TVM's RPC server, no root needed."""


_name = click.option("--name", default=process.NAME, show_default=True, help="Of several phones.")


@virtual.command("install")
@options.common
def install_phone(as_json: bool) -> None:
    """Download it without starting it; `up` does this by itself."""
    output = Output(as_json)
    there = install(lambda text: output.note(f"virtual phone: {text}"))
    output.emit({"folder": str(there)}, f"virtual phone: installed in {there}")


@virtual.command("up")
@_name
@click.option("--cpu", type=click.Choice(emulator.CPUS), default="max", show_default=True,
              help="The CPU; instructions that it lacks end a run as on the real one.")  # fmt: skip
@click.option("--count", is_flag=True, help="Count instructions; needs a C compiler here.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any that is free.")
@click.option("--tracker", default="", metavar="HOST:PORT", help="A tracker to report to.")
@click.option("--key", default="", help="What clients ask the tracker for.")
@options.common
def up(name: str, cpu: str, count: bool, port: int, tracker: str, key: str, as_json: bool) -> None:
    """Start it; the first time, download about 165 MB (230 MB on disk).

    One that runs already as asked for is left as it is, with exit code 0; one that runs otherwise
    is an error. With a tracker, that is asked first, and the phone is among its devices at the end:
    else exit code 3, and nothing is left running.
    """
    output = Output(as_json)
    wish = process.Wish(name, cpu, count, port, tracker, key)
    phone = process.up(wish, lambda text: output.note(f"virtual phone: {text}"))
    output.emit({**asdict(phone), "log": str(phone.log)}, _line(phone))


@virtual.command("down")
@_name
@click.option("--all", "every", is_flag=True, help="All that run.")
@options.common
def down(name: str, every: bool, as_json: bool) -> None:
    """Stop it, with everything that runs on it."""
    names = [phone.name for phone in process.all_running()] if every else [name]
    stopped = [name for name in names if process.down(name)]
    others = [phone.name for phone in process.all_running()]
    said = f"stopped {', '.join(stopped)}" if stopped else f"no virtual phone {name} was running"
    if not stopped and not others:
        said = "no virtual phone was running"
    if not stopped and others:
        said += f"; these are: {', '.join(others)} (--name, or --all)"
    Output(as_json).emit({"stopped": stopped, "running": others}, said)
