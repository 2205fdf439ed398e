"""What can go wrong when a compiled model is saved, loaded or run, as typed errors.

The command line prints the message and leaves with `exit_code`: 2 for what the user gave, 3 for
what the machine lacks.
"""

from __future__ import annotations


class ModuleError(Exception):
    """Base of this room's errors."""

    exit_code = 2


class InputsError(ModuleError):
    """Inputs do not fit the model; the message names each."""


class ArtefactError(ModuleError):
    """A saved model cannot be written or read; the message names the path."""


class EnvironmentLackError(ModuleError):
    """The machine lacks something: a linker, a package, a CPU feature; the message says what."""

    exit_code = 3
