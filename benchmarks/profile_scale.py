"""The profile database at scale: a million rows, looked up by key.

    python -m benchmarks.profile_scale                  # a million rows, some minutes
    python -m benchmarks.profile_scale --rows 22000     # DNNFusion's own database has 22K entries

Rows are those of real blocks (a convolution with its bias and activation) with made-up sizes, so
that keys are hashes of as much text as in use. Look-ups are of random keys; half of them are there.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tvm_dnnfusion.profile import Entry, ProfileDB, entry_key
from tvm_dnnfusion.profile.database import utc_now

LOOKUPS = 4000
AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Scale:
    """What was measured: sizes, and times of single operations as medians and 99th percentiles."""

    rows: int
    file_mb: float
    fill_s: float
    open_ms: float
    first_get_us: float
    get_us: float
    get_p99_us: float
    put_us: float


def block_text(n: int) -> str:
    """The canonical form of a convolution, an addition and a ReLU; another one for every n."""
    channels, size = 16 + n % 1000, 7 + n // 1000
    shape = [1, channels, size, size]
    types = [[shape, "float32"]]
    conv = ["nn.conv2d",
            [["data_layout", "NCHW"], ["dilation", [1, 1]], ["groups", 1],
             ["kernel_layout", "OIHW"], ["out_dtype", "void"], ["out_layout", "NCHW"],
             ["padding", [1, 1, 1, 1]], ["strides", [1, 1]]],
            [-1, -2], types]  # fmt: skip
    data = {
        "in": [[*types[0], False], [[channels, channels, 3, 3], "float32", True],
               [[1, channels, 1, 1], "float32", True]],
        "ops": [conv, ["add", [], [0, -3], types], ["nn.relu", [], [1], types]],
        "out": [2],
    }  # fmt: skip
    return json.dumps(data, separators=(",", ":"))


def row(n: int) -> Entry:
    """Row number n."""
    block = block_text(n)
    key = entry_key(block, "scale", 2, "1")
    return Entry(key, block, "scale", 2, "1", 10.0 + n % 97, 0.01, 9, utc_now(), "0")


def measure(rows: int, folder: Path) -> Scale:
    """Fill a database in `folder` and time it."""
    path = folder / "profile.sqlite"
    began = time.perf_counter()
    with ProfileDB(path) as db:
        order = sorted(range(rows), key=_key)  # appended to the tree, page after page
        for start in range(0, rows, AT_ONCE):
            db.put_all(tuple(row(n) for n in order[start : start + AT_ONCE]))
    fill = time.perf_counter() - began
    rng = random.Random(0)
    keys = [row(rng.randrange(2 * rows)).key for _ in range(LOOKUPS)]
    began = time.perf_counter()
    db = ProfileDB(path)
    opened = time.perf_counter() - began
    first = [_timed(db, key) for key in keys]
    again = [_timed(db, key) for key in keys]
    puts: list[float] = []
    for n in range(rows * 2, rows * 2 + 50):
        entry = row(n)
        began = time.perf_counter()
        db.put(entry)
        puts.append(time.perf_counter() - began)
    size = db.status().file_bytes
    db.close()
    return Scale(
        rows, round(size / 1e6, 1), round(fill, 1), round(opened * 1e3, 2),
        *(round(x * 1e6, 1) for x in (
            statistics.median(first), statistics.median(again),
            sorted(again)[len(again) * 99 // 100], statistics.median(puts))),
    )  # fmt: skip


def _key(n: int) -> str:
    return entry_key(block_text(n), "scale", 2, "1")


def _timed(db: ProfileDB, key: str) -> float:
    began = time.perf_counter()
    db.get(key)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asdict(measure(options.rows, Path(folder))), indent=2))


if __name__ == "__main__":
    main()
