"""A compiled model as `in_model` wants it: on this machine, or on the device of a session."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from tvm_dnnfusion.devices.sessions import CallError, Session
from tvm_dnnfusion.devices.threads import call_with
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.bench import BenchOptions, KernelTime, bench, profile
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.remote import deployed
from tvm_dnnfusion.tuning.in_model import Side

TIMING = BenchOptions(runs=20, warmup_s=0.1, wall_s=2.0, profile=False)


@contextmanager
def here(
    module: Module, kernel_of: Mapping[str, str], inputs: Mapping[str, Array], threads: int | None
) -> Generator[Side]:
    """A model on this machine; `kernel_of` names the kernel of each block."""
    yield Side(
        kernel_of,
        lambda: _times(call_with(threads, lambda _: profile(module, inputs))),
        lambda: bench(module, inputs, threads=threads, options=TIMING).median_us,
    )


@contextmanager
def there(
    module: Module,
    kernel_of: Mapping[str, str],
    inputs: Mapping[str, Array],
    target: Mapping[str, object],
    session: Session,
) -> Generator[Side]:
    """A model that is sent to a device; without times of kernels where its server has none."""
    with deployed(module, target, session) as loaded:

        def kernels() -> dict[str, float]:
            try:
                return _times(loaded.profile(inputs))
            except CallError:
                return {}

        yield Side(kernel_of, kernels, lambda: loaded.time(inputs, TIMING).median_us)


def _times(rows: tuple[KernelTime, ...]) -> dict[str, float]:
    return {row.name: row.us for row in rows}
