"""Runs on the virtual phone: ONNX Runtime on one model, its instructions counted by `counters.py`.

python on_device.py MODEL.onnx FEED.npz FOLDER-OF-ONNXRUNTIME FOLDER-OF-COUNTERS
"""

import json
import sys

LIBRARY = "onnxruntime_pybind11_state.cpython-311-aarch64-linux-gnu.so"


def main(model: str, feed: str, *folders: str) -> None:
    """One line of JSON: counts of the second run; the first one sets the memory up."""
    sys.path[:0] = folders
    import counters  # type: ignore[import-not-found]
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options)
    inputs = dict(np.load(feed))
    session.run(None, inputs)
    before = json.loads(counters.counters(LIBRARY))
    session.run(None, inputs)
    after = json.loads(counters.counters(LIBRARY))
    print(json.dumps({name: after[name] - before[name] for name in after}))


if __name__ == "__main__":
    main(*sys.argv[1:])
