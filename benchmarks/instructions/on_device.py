"""Runs on the virtual phone: ONNX Runtime on one model, its instructions counted by `counters.py`.

    python on_device.py MODEL.onnx FEED.npz FOLDER-OF-ONNXRUNTIME FOLDER-OF-COUNTERS
"""

import json
import sys

import numpy as np

sys.path[:0] = sys.argv[3:5]

import counters  # type: ignore[import-not-found]
import onnxruntime  # type: ignore[import-not-found,unused-ignore]

LIBRARY = "onnxruntime_pybind11_state.cpython-311-aarch64-linux-gnu.so"


def main() -> None:
    """One line of JSON: counts of the second run; the first one sets the memory up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    feed = dict(np.load(sys.argv[2]))
    session.run(None, feed)
    before = json.loads(counters.counters(LIBRARY))
    session.run(None, feed)
    after = json.loads(counters.counters(LIBRARY))
    print(json.dumps({name: after[name] - before[name] for name in after}))


main()
