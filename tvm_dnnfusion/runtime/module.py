"""A compiled model that is called by name: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tvm_dnnfusion.devices.threads import ThreadReport, at_most_all, call_with
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.signature import Signature, flatten, signature_of


@dataclass(frozen=True)
class Module:
    """A compiled model.

    `code` is a `tvm.runtime.Executable` or a loaded `tvm.runtime.Module`; `kernels` maps the name
    of a kernel to the names of the source layers in it; `threads` is the count that it runs with
    where the caller names none (None: as `threads.configure` chooses).
    """

    code: Any
    signature: Signature
    entry: str = "main"
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    threads: int | None = None

    @cached_property
    def machine(self) -> Any:
        """A Relax virtual machine on the CPU, made at its first use."""
        return self.new_machine()

    def new_machine(self) -> Any:
        """A virtual machine of its own, for instruments."""
        import tvm
        from tvm import relax

        return relax.VirtualMachine(self.code, tvm.cpu())

    def arguments(self, inputs: Mapping[str, Array]) -> list[Any]:
        """The inputs as TVM tensors in the order of the parameters. Raises InputsError."""
        import tvm

        checked = check_inputs(inputs, self.signature)
        return [tvm.runtime.tensor(array, tvm.cpu()) for array in checked.values()]

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once with the threads that are in force, and return the outputs by name."""
        result = self.machine[self.entry](*self.arguments(inputs))
        names = (port.name for port in self.signature.outputs)
        return dict(zip(names, flatten(result), strict=True))


@dataclass(frozen=True, slots=True)
class RunResult:
    """Outputs by name, and the threads that they were computed with."""

    outputs: dict[str, Array]
    threads: ThreadReport


def build(mod: Any, target: Mapping[str, object], entry: str = "main") -> Module:
    """Compile a Relax module with TVM's default pipeline, which fuses nothing on CPUs.

    This is the unfused module that results are compared with, and what a scheduled module (whose
    kernels are final) is built with. `target` is a dictionary as TVM takes it.
    """
    import tvm
    from tvm.target import Target

    made = target if isinstance(target, Target) else Target(dict(target))
    signature = signature_of(mod, entry)
    return Module(tvm.compile(mod, target=made), signature, entry)


def run(module: Module, inputs: Mapping[str, Array], threads: int | None = None) -> RunResult:
    """Run once with a stated number of threads.

    Raises InputsError where the inputs do not fit.
    """
    check_inputs(inputs, module.signature)
    count = at_most_all(module.threads) if threads is None else threads
    return call_with(count, lambda report: RunResult(module(inputs), report))
