"""Sessions with devices: one interface for this machine, RPC servers, trackers, virtual phone."""

from tvm_dnnfusion.devices.sessions.address import Address, parse
from tvm_dnnfusion.devices.sessions.errors import (
    AddressError,
    CallError,
    CrashError,
    DeadlineError,
    DeviceMemoryError,
    LibraryError,
    LostError,
    SessionError,
    UnreachableError,
)
from tvm_dnnfusion.devices.sessions.parallel import Outcome, devices, run_jobs
from tvm_dnnfusion.devices.sessions.program import Program
from tvm_dnnfusion.devices.sessions.records import (
    CoolDown,
    DeviceInfo,
    DeviceState,
    KernelCall,
    KernelCount,
    Limits,
    Timing,
    TimingOptions,
)
from tvm_dnnfusion.devices.sessions.session import Session

__all__ = [
    "Address",
    "AddressError",
    "CallError",
    "CoolDown",
    "CrashError",
    "DeadlineError",
    "DeviceInfo",
    "DeviceMemoryError",
    "DeviceState",
    "KernelCall",
    "KernelCount",
    "LibraryError",
    "Limits",
    "LostError",
    "Outcome",
    "Program",
    "Session",
    "SessionError",
    "Timing",
    "TimingOptions",
    "UnreachableError",
    "devices",
    "parse",
    "run_jobs",
]
