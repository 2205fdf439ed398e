"""What the environment says: the only file of the library that reads environment variables.

| variable          | meaning                                                                 |
|-------------------|-------------------------------------------------------------------------|
| DNNFUSION_THREADS | threads for running and measuring; wins over TVM_NUM_THREADS            |
| TVM_NUM_THREADS   | TVM's own setting, honoured where DNNFUSION_THREADS is absent           |
| DNNFUSION_CACHE   | folder of the profile database; default: the user's cache folder        |
| DNNFUSION_VIRTUAL | folder of the virtual phone; default: "virtual" in the user's cache     |
| DNNFUSION_MIRROR  | Debian mirror that the virtual phone comes from                         |
| DNNFUSION_DEBUG   | 0 quiet, 1 steps, 2 decisions, 3 also the IR after each step            |
| DNNFUSION_OPENCL_LIB | path of the OpenCL library, or "pocl" for pip's; default: the system's |

Nothing is kept: every call reads the environment anew, so tests and programs may change it.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIRROR = "https://deb.debian.org/debian"


class SettingsError(ValueError):
    """An environment variable has a value that means nothing; the message names it."""


class Debug(enum.IntEnum):
    """How much is said while the library works; each step includes those before it."""

    QUIET = 0
    STEPS = 1
    DECISIONS = 2
    IR = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment's settings.

    `threads` is None where nothing was asked for; `threads_source` names the variable.
    """

    threads: int | None
    threads_source: str | None
    cache: Path
    debug: Debug
    virtual: Path
    mirror: str


def environment(found: Settings) -> dict[str, str]:
    """The environment for a child, with the threads for TVM's pool as `found` has them."""
    said = {k: v for k, v in os.environ.items() if k != "TVM_NUM_THREADS"}
    if found.threads_source == "TVM_NUM_THREADS":
        said["TVM_NUM_THREADS"] = str(found.threads)
    return said


def without_threads() -> dict[str, str]:
    """The environment for another machine's programs: without the threads set for this one."""
    return {k: v for k, v in os.environ.items() if k not in ("TVM_NUM_THREADS", "OMP_NUM_THREADS")}


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force.

    Raises
    ------
    SettingsError
        Where a variable holds something other than what the table above allows.
    """
    env = os.environ if environ is None else environ
    threads, source = _threads(env)
    return Settings(
        threads=threads,
        threads_source=source,
        cache=_cache(env),
        debug=_debug(env),
        virtual=_folder(env, "DNNFUSION_VIRTUAL") or _user_cache(env) / "virtual",
        mirror=env.get("DNNFUSION_MIRROR", "").strip().rstrip("/") or MIRROR,
    )


def export_threads(count: int) -> None:
    """Tell TVM's thread pool of `count` threads; it looks only once, when it starts."""
    os.environ["TVM_NUM_THREADS"] = str(count)


def opencl_library(environ: Mapping[str, str] | None = None) -> str:
    """What DNNFUSION_OPENCL_LIB says, a path or "pocl"; empty where it says nothing."""
    return (os.environ if environ is None else environ).get("DNNFUSION_OPENCL_LIB", "").strip()


def export_opencl_home(folder: Path) -> None:
    """Tell the OpenCL loader of pyopencl's wheel where its drivers are."""
    os.environ["PYOPENCL_HOME"] = str(folder)


def _threads(env: Mapping[str, str]) -> tuple[int | None, str | None]:
    for name in ("DNNFUSION_THREADS", "TVM_NUM_THREADS"):
        text = env.get(name, "").strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) < 1:
            raise SettingsError(f"{name}={text!r}: expected a number of threads, 1 or more")
        return int(text), name
    return None, None


def _cache(env: Mapping[str, str]) -> Path:
    return _folder(env, "DNNFUSION_CACHE") or _user_cache(env)


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "").strip()
    return Path(text).expanduser() if text else None


def _user_cache(env: Mapping[str, str]) -> Path:
    return (_folder(env, "XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm-dnnfusion"


def _debug(env: Mapping[str, str]) -> Debug:
    text = env.get("DNNFUSION_DEBUG", "").strip()
    if not text:
        return Debug.QUIET
    names = ", ".join(f"{level.value} ({level.name.lower()})" for level in Debug)
    if not text.isdecimal() or int(text) not in {level.value for level in Debug}:
        raise SettingsError(f"DNNFUSION_DEBUG={text!r}: expected one of {names}")
    return Debug(int(text))
