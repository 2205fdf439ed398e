"""--dump-code: the code of the kernels, as files beside the library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled

FILES = {"tir": "kernels.py", "ll": "kernels.ll", "asm": "kernels.s"}
"""Format -> file: TVMScript of the scheduled module, LLVM's IR, and assembly."""


def parse_formats(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Formats separated by commas, as tvmc took them; each once, in the order of `FILES`."""
    given = [part.strip() for part in (value or "").split(",") if part.strip()]
    unknown = [part for part in given if part not in FILES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(FILES)}")
    return tuple(name for name in FILES if name in given)


def code_files(compiled: Compiled, formats: tuple[str, ...]) -> dict[str, bytes]:
    """File name -> content for each format; constants are left out of the script."""
    out: dict[str, bytes] = {}
    for name in formats:
        if name == "tir":
            text = compiled.module.script(show_meta=False)
        else:
            text = "\n".join(
                part for m in _modules(compiled.executable.mod) if (part := m.inspect_source(name))
            )
        out[FILES[name]] = text.encode()
    return out


def _modules(module: Any) -> Iterator[Any]:
    """A runtime module and all that it imports, each once as they come."""
    yield module
    for imported in module.imports:
        yield from _modules(imported)
