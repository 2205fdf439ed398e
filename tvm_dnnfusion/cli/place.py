"""Options that say on which device a model runs, and the session with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import ranges
from tvm_dnnfusion.cli.build import Build, Shapes, module_of
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.quiet import without_chatter
from tvm_dnnfusion.cli.subject import check_saved, is_saved
from tvm_dnnfusion.devices.sessions.address import FORMS, TRACKER, Address, host_port, parse

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.devices.sessions import Session
    from tvm_dnnfusion.runtime.remote import Deployed


@dataclass(frozen=True, slots=True)
class Place:
    """A device to run on: its address, the cores to use, seconds that one call may take."""

    address: Address
    cluster: str
    timeout_s: float

    @contextmanager
    def session(self, threads: int | None, phases: Phases) -> Generator[Session]:
        """An open session. Raises UnreachableError."""
        from tvm_dnnfusion.devices.sessions import Limits, Session

        phases("connect")
        limits = Limits(call_s=self.timeout_s)
        made = Session(
            self.address, limits=limits, threads=threads, cluster=self.cluster, notify=phases.note
        )
        with made as session:
            yield session


def on_device(command: Callable[..., Any]) -> Callable[..., Any]:
    """--device, --rpc-tracker, --rpc-key, --cores and --timeout, as one argument `place`."""
    flags = (
        click.option("--device", metavar="ADDRESS", help=f"Run on this device: {FORMS}."),
        click.option(
            "--rpc-tracker", metavar="HOST:PORT", help="Run on a device of this TVM RPC tracker."
        ),
        click.option("--rpc-key", metavar="KEY", help="The key that the tracker knows it under."),
        click.option(
            "--cores",
            type=click.Choice(["all", "big", "little"]),
            default="all",
            show_default=True,
            help="Cores of the device to use.",
        ),
        click.option(
            "--timeout",
            type=ranges.LIMIT_S,
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="What one run on the device may take.",
        ),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        names = ("device", "rpc_tracker", "rpc_key")
        address = address_of(*(kwargs.pop(name) for name in names))
        cluster, timeout_s = kwargs.pop("cores"), kwargs.pop("timeout")
        place = None if address is None else Place(address, cluster, timeout_s)
        if place is None and cluster != "all":
            raise click.UsageError("--cores is for a device: name it with --device")
        return command(*args, place=place, **kwargs)

    out: Any = wrapped
    for flag in reversed(flags):
        out = flag(out)
    return out  # type: ignore[no-any-return]


def address_of(device: str | None, tracker: str | None, key: str | None) -> Address | None:
    """The address that the options name, None for none.

    Raises click.UsageError where they contradict each other, AddressError where one is none.
    """
    if device is not None:
        if tracker is not None or key is not None:
            raise click.UsageError(
                "--device names the device already: leave out --rpc-tracker and --rpc-key"
            )
        return parse(device)
    if tracker is None and key is None:
        return None
    if tracker is None or key is None:
        raise click.UsageError("--rpc-tracker HOST:PORT and --rpc-key KEY go together")
    host, port = host_port(tracker)
    return parse(str(Address(TRACKER, host, port, key)))


@contextmanager
def on(
    place: Place, model: str, shapes: Shapes | None, build: Build, phases: Phases
) -> Generator[Deployed]:
    """The model, or saved library, on the device; compiled for its target if it is a model."""
    with place.session(build.threads, phases) as session:
        if is_saved(model):
            check_saved(model, shapes, build)
            with deployed_saved(Path(model), session, phases) as loaded:
                yield loaded
            return
        check_machine(build, session)
        compiled = compile_for(build, model, shapes, phases)
        with deployed_model(compiled, build, session, phases) as loaded:
            yield loaded


def compile_for(build: Build, model: str, shapes: Shapes | None, phases: Phases) -> Compiled:
    """The model compiled for the device: --threads is the device's, this machine takes its own."""
    return replace(build, threads=None).compile(model, shapes, phases)


def deployed_model(
    compiled: Compiled, build: Build, session: Session, phases: Phases
) -> AbstractContextManager[Deployed]:
    """A compiled model on the device."""
    from tvm_dnnfusion.runtime.remote import deployed

    return _uploaded(deployed(module_of(compiled, None), build.target, session), phases)


def deployed_saved(
    path: Path, session: Session, phases: Phases
) -> AbstractContextManager[Deployed]:
    """A saved library on the device."""
    from tvm_dnnfusion.runtime.remote import deployed_library

    return _uploaded(deployed_library(path, session), phases)


@contextmanager
def _uploaded(opening: AbstractContextManager[Deployed], phases: Phases) -> Generator[Deployed]:
    with ExitStack() as stack:
        phases("upload")
        with without_chatter():
            loaded = stack.enter_context(opening)
        yield loaded


def check_here(target: Mapping[str, object]) -> None:
    """Refuse a target whose code does not run on this machine, before anything is compiled for it.

    Raises click.UsageError; OpenCLError for an OpenCL target without a device here.
    """
    from tvm_dnnfusion.devices import cpu
    from tvm_dnnfusion.runtime.processor import foreign, places_of, processor_of

    triple = foreign(target)
    if triple:
        raise click.UsageError(
            f"code for {triple} does not run on this machine ({cpu.cpu_info().arch}): name the "
            "device that it is for with --device, or --rpc-tracker and --rpc-key"
        )
    places_of(processor_of(target))


def check_cpu(target: Mapping[str, object], what: str, instead: str) -> None:
    """Refuse a GPU's target where only kernels of CPUs are measured. Raises click.UsageError."""
    from tvm_dnnfusion.runtime.processor import CPU, processor_of

    if processor_of(target) != CPU:
        raise click.UsageError(
            f"{what} measures kernels of CPUs only, and the target is of kind "
            f"{target['kind']}: {instead}"
        )


def check_machine(build: Build, session: Session) -> None:
    """Refuse a target of another machine before anything is compiled for it.

    Raises click.UsageError.
    """
    from tvm_dnnfusion.devices import cpu, llvm
    from tvm_dnnfusion.runtime.processor import triple_of

    triple = triple_of(build.target) or llvm.default_triple()
    machine = session.info.machine
    if machine and cpu.arch_of(triple) != machine:
        raise click.UsageError(
            f"{session.address} is {machine}, the target is {cpu.arch_of(triple)}: give its own, "
            "for instance --target cortex-a76 (`dnnfusion devices list` shows more)"
        )
