"""Build the zoo's models, or list them.

python -m benchmarks.zoo                    # all that are missing
python -m benchmarks.zoo unet gpt2 --again  # these two, anew
python -m benchmarks.zoo --list
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.zoo import figures, store
from benchmarks.zoo.catalog import ZOO


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a model could not be built."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="name, state and size of each")
    parser.add_argument("--again", action="store_true", help="build also what is there")
    parser.add_argument("--table", action="store_true", help="figures beside the paper's, all")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in ZOO]:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(ZOO)}")
    names = options.names or list(ZOO)
    if options.list:
        print("\n".join(map(_state, names)))
        return 0
    if options.table:
        print(figures.table())
        return 0
    wanted = [name for name in names if options.again or not store.is_complete(name)]
    print(f"{store.folder()}: {len(names) - len(wanted)} there, {len(wanted)} to build")
    failed = [name for name in wanted if not _built(name)]
    return 1 if failed else 0


def _built(name: str) -> bool:
    started = time.perf_counter()
    try:
        file = store.build(name)
    except Exception as error:  # the other models are still wanted
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    size, seconds = file.stat().st_size / 1e6, time.perf_counter() - started
    print(f"{file}: {size:.1f} MB in {seconds:.0f} s", flush=True)
    return True


def _state(name: str) -> str:
    file = store.path(name)
    state = f"{file.stat().st_size / 1e6:8.1f} MB" if file.is_file() else "not built  "
    return f"{name:18} {state}  {ZOO[name].title}"


if __name__ == "__main__":
    sys.exit(main())
