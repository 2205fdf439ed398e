"""Runs on the virtual phone: the server for boards, with the counters of instructions.

launch.py SERVER.PY [the server's options]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType


def _load(path: Path) -> ModuleType:
    """A file as a module; the package is not installed here."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Register the counters, then serve until killed; what is asked is told that it is emulated."""
    _load(Path(__file__).with_name("counters.py")).register()
    server = _load(Path(sys.argv[1]))
    plain = server.info

    def info() -> str:
        return json.dumps({**json.loads(plain()), "emulated": "QEMU"})

    setattr(server, "info", info)  # noqa: B010  # a module known only here
    server.main(sys.argv[2:])


if __name__ == "__main__":
    main()
