"""A compiled model that is called by name: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tvm_dnnfusion.devices.threads import ThreadReport, at_most_all, call_with
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.errors import EnvironmentLackError
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.processor import places_of, processor_in
from tvm_dnnfusion.runtime.signature import Signature, flatten, signature_of

_MISMATCH = "architecture mismatch"
"""What TVM says where the code is for another CPU."""


@dataclass(frozen=True)
class Module:
    """A compiled model, which runs on this machine's CPU, or its OpenCL device.

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
    def processor(self) -> str:
        """What its kernels run on: "cpu", or a GPU's interface as TVM names it ("opencl")."""
        return processor_in(self.code)

    @cached_property
    def places(self) -> list[Any]:
        """The devices of its virtual machine, that of inputs and outputs first.

        Raises OpenCLError where this machine has none for it.
        """
        return places_of(self.processor)

    @cached_property
    def machine(self) -> Any:
        """A Relax virtual machine on this machine's devices, made at its first use."""
        return self.new_machine()

    def new_machine(self) -> Any:
        """A virtual machine of its own, for instruments.

        Raises OpenCLError where there is no device for it, EnvironmentLackError where it is
        compiled for another machine.
        """
        from tvm import relax
        from tvm.error import InternalError

        try:
            return relax.VirtualMachine(self.code, self.places)
        except InternalError as error:
            if _MISMATCH not in str(error):
                raise
            raise EnvironmentLackError(
                "this model is compiled for another machine: run it there (--device on the command "
                "line, runtime.remote.deployed in Python), or compile it for this one"
            ) from error

    def arguments(self, inputs: Mapping[str, Array]) -> list[Any]:
        """The inputs as TVM tensors in the order of the parameters. Raises InputsError."""
        import tvm

        checked = check_inputs(inputs, self.signature)
        return [tvm.runtime.tensor(array, self.places[0]) for array in checked.values()]

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
