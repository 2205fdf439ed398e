"""Exit codes of `dnnfusion`. Scripts depend on them: a code never changes its meaning."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What the code says to the caller."""

    OK = 0
    VERIFICATION_FAILED = 1
    USAGE = 2
    ENVIRONMENT = 3
    INTERRUPTED = 4
    INTERNAL = 5


class VerificationFailed(Exception):
    """Outputs differ by more than the tolerance; nothing was written."""

    exit_code = Exit.VERIFICATION_FAILED
