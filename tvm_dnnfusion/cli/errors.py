"""Exceptions to messages and exit codes: the one error handler of the command line.

Expected errors are one message without a traceback. Anything else is a fault of this program: one
line, and the traceback in a file (or on the terminal with --traceback).
"""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import click

from tvm_dnnfusion.cli.exits import Exit

RESUME = (
    "interrupted: no file is left half-written. Measurements that were complete stay in their "
    "database, if the command has one, and the same command goes on from there"
)

EXPECTED: Mapping[str, Exit] = {
    "tvm_dnnfusion._versions.VersionError": Exit.ENVIRONMENT,
    "tvm_dnnfusion.devices.registry.DeviceError": Exit.USAGE,
    "tvm_dnnfusion.devices.threads.ThreadError": Exit.USAGE,
    "tvm_dnnfusion.planners.plan_io.PlanError": Exit.USAGE,
    "tvm_dnnfusion.planners.registry.PlannerError": Exit.USAGE,
    "tvm_dnnfusion.profile.database.ProfileError": Exit.ENVIRONMENT,
    "tvm_dnnfusion.report.names.UnknownNameError": Exit.USAGE,
    "tvm_dnnfusion.report.summary.SummaryError": Exit.USAGE,
    "tvm_dnnfusion.settings.SettingsError": Exit.ENVIRONMENT,
}
"""Errors of the library that have no `exit_code` of their own, by qualified name: naming them keeps
their modules, and TVM with them, from being loaded just to print a message."""

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said of an exception; `expected` is False for a fault of the program."""

    message: str
    code: Exit
    kind: str
    expected: bool = True


def describe(error: BaseException) -> Failure:
    """The message and the exit code of an exception."""
    kind = type(error).__name__
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return Failure(RESUME, Exit.INTERRUPTED, "Interrupted")
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), Exit.USAGE, kind)
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and isinstance(error, Exception):
        return Failure(str(error), Exit(code), kind)
    for cls in type(error).__mro__:
        known = EXPECTED.get(f"{cls.__module__}.{cls.__qualname__}")
        if known is not None:
            return Failure(str(error), known, kind)
    return _system(error, kind) or Failure(_one_line(error), Exit.INTERNAL, kind, expected=False)


# Packages that are installed under another name than they are imported.
_PIP_NAMES = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}


def _is_missing(module: str) -> bool:
    """Whether a module is missing because its package is; else the fault is in this program."""
    package = module.partition(".")[0]
    return not _ours(module) and (module == package or find_spec(package) is None)


def _system(error: BaseException, kind: str) -> Failure | None:
    """Errors of the system that a user can mend; None for others."""
    if isinstance(error, ModuleNotFoundError) and error.name and _is_missing(error.name):
        package = error.name.partition(".")[0]
        pip = _PIP_NAMES.get(package, package)
        text = f"the Python package {package} is not installed. Mend it with: pip install {pip}"
        return Failure(text, Exit.ENVIRONMENT, kind)
    if isinstance(error, MemoryError):
        return Failure("out of memory", Exit.ENVIRONMENT, kind)
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        code = Exit.ENVIRONMENT if error.errno in FULL_DISK else Exit.USAGE
        return Failure(f"{error.filename}: {os.strerror(error.errno)}", code, kind)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return Failure("no space left on the disk", Exit.ENVIRONMENT, kind)
    return None


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "tvm_dnnfusion"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__


def keep_traceback(error: BaseException) -> str | None:
    """Write the traceback to a new file and return its path; None where no file can be made."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="dnnfusion-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError:
        return None
    return path
