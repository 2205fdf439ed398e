"""Operator fusion for Apache TVM: rewriting, planning and lowering after DNNFusion (PLDI'21).

    from tvm_dnnfusion import DNNFusionPass, compile

Names are loaded when they are first used: `tvm_dnnfusion.ecg`, `.rewrite` and `.planners` import
without TVM.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_dnnfusion import _versions

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled, compile
    from tvm_dnnfusion.passes import DNNFusionPass, register_pipeline

__version__ = "0.1.0"
__all__ = ["Compiled", "DNNFusionPass", "__version__", "compile", "register_pipeline"]

_LAZY = {
    "Compiled": "tvm_dnnfusion.api",
    "DNNFusionPass": "tvm_dnnfusion.passes",
    "compile": "tvm_dnnfusion.api",
    "register_pipeline": "tvm_dnnfusion.passes",
}
_EXIT_ENVIRONMENT = 3


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _check_versions() -> None:
    """Raise at import; the command `dnnfusion` gets the message and its exit code instead."""
    try:
        _versions.check()
    except _versions.VersionError as error:
        if Path(sys.argv[0] if sys.argv else "").stem != "dnnfusion":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(_EXIT_ENVIRONMENT) from None


_check_versions()
