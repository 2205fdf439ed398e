"""Run one exported case once on `tvm.opencl(0)` and compare: the process that Oclgrind watches.

python -m benchmarks.opencl.execute CASE LIBRARY EXPECTED.npy
"""

from __future__ import annotations

import sys

import numpy as np
import tvm
from tvm import relax

from benchmarks.opencl.cases import CASES
from tvm_dnnfusion import opencl


def main() -> int:
    """Exits with 1 and a line where the result is wrong."""
    name, library, expected = sys.argv[1:]
    case = next(c for c in CASES if c.name == name)
    opencl.load()
    device = tvm.opencl(0)
    machine = relax.VirtualMachine(tvm.runtime.load_module(library), [device, tvm.cpu()])
    out = machine["main"](*[tvm.runtime.tensor(a, device) for a in case.arrays()]).numpy()
    wanted = np.load(expected)
    worst = float(np.abs(out - wanted).max())
    if not np.allclose(out, wanted, rtol=1e-4, atol=1e-4 * float(np.abs(wanted).max())):
        print(f"wrong result: differs by {worst:.3g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
