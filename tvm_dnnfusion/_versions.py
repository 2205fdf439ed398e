"""Checks, before TVM is loaded, that the installed TVM is one that this library works with.

With apache-tvm-ffi 0.1.15 the TVM 0.27 wheel crashes in `ConvertLayout` and in MetaSchedule, and
its own metadata does not exclude it. A crash tells a user nothing, so the pins are checked at
import.
Only package metadata is read: a few milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util


class VersionError(ImportError):
    """A dependency is absent or has a version that does not work; the message has the pip line."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A distribution, the versions of it that work, and the module that it provides."""

    name: str
    spec: str
    module: str

    @property
    def pip_line(self) -> str:
        """The command that mends it."""
        return f'pip install "{self.name}{self.spec}"'


PINS = (
    Pin("apache-tvm", ">=0.27,<0.28", "tvm"),
    Pin("apache-tvm-ffi", ">=0.1.14.post0,<0.1.15", "tvm_ffi"),
)

_VERSION = re.compile(
    r"v?(?P<release>\d+(\.\d+)*)"
    r"([.-]?(?P<pre>a|b|rc|dev)\d*)?"
    r"(\.post(?P<post>\d+))?"
    r"(\.dev\d+)?(\+.*)?"
)
_RELEASE_PARTS = 6


def version_key(version: str) -> tuple[tuple[int, ...], int, int]:
    """Order of a version as PEP 440 has it, as far as the pins need: release, pre, post.

    Raises ValueError for text that is not a version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"not a version: {version!r}")
    release = tuple(int(part) for part in match["release"].split("."))
    padded = release + (0,) * (_RELEASE_PARTS - len(release))
    post = -1 if match["post"] is None else int(match["post"])
    return padded, -1 if match["pre"] else 0, post


def satisfies(version: str, spec: str) -> bool:
    """Whether `version` is within `spec`, a comma-separated list of `>=` and `<` bounds.

    As in PEP 440, `<X` also excludes the pre-releases of X.
    """
    found = version_key(version)
    for bound in spec.split(","):
        if bound.startswith(">="):
            ok = found >= version_key(bound[2:])
        elif bound.startswith("<"):
            limit = version_key(bound[1:])
            ok = found < limit and found[0] != limit[0]
        else:
            raise ValueError(f"unknown bound {bound!r} in {spec!r}")
        if not ok:
            return False
    return True


def installed(name: str) -> str | None:
    """Version of an installed distribution, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def complaints(
    pins: tuple[Pin, ...] = PINS, find: Callable[[str], str | None] = installed
) -> tuple[str, ...]:
    """What is wrong with the installed versions: one text per pin that does not hold.

    A TVM built from source has no distribution metadata; it is let through where its module exists.
    """
    out: list[str] = []
    for pin in pins:
        found = find(pin.name)
        if found is None and util.find_spec(pin.module) is not None:
            continue
        if found is not None and satisfies(found, pin.spec):
            continue
        state = "is not installed" if found is None else f"{found} is installed"
        out.append(
            f"tvm_dnnfusion needs {pin.name}{pin.spec}, but {pin.name} {state}.\n"
            f"  Mend it with: {pin.pip_line}"
        )
    return tuple(out)


def check() -> None:
    """Raise VersionError when an installed version is outside its pin."""
    found = complaints()
    if found:
        raise VersionError("\n".join(found))
