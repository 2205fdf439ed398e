"""`python -m tvm_dnnfusion.opencl`: build the native part for the installed TVM, say what works."""

from __future__ import annotations

import sys

from tvm_dnnfusion import opencl
from tvm_dnnfusion.opencl.build import BuildError, build


def _main() -> int:
    try:
        print(opencl.library() or build(opencl.cache_folder()))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    status = opencl.status()
    for index, device in enumerate(status.devices):
        print(f"opencl:{index} {device}")
    if status.problem:
        print(f"{status.problem}. Mend it: {status.mend}")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
