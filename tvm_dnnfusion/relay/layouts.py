"""Tensors from one of Relay's layouts to another: "NCHW", "NHWC", "NCHW16c", "OIHW4i8o".

NCHW -> NCHW4c   reshape [N, C/4, 4, H, W], then permute_dims
NCHW4c -> NHWC   permute_dims [N, C/4, 4, H, W], reshape [N, C, H, W], then permute_dims
"""

from __future__ import annotations

import re
from typing import Any

from tvm import relax

from tvm_dnnfusion.relay.entry import Call, Unsupported


def layout_axes(layout: str) -> list[tuple[str, int]]:
    """NCHW16c -> (N, 0), (C, 0), (H, 0), (W, 0), (c, 16): axis and, of a split one, its factor."""
    found = re.findall(r"(\d*)([A-Za-z])", layout)
    if "".join(n + a for n, a in found) != layout or any((not n) != a.isupper() for n, a in found):
        raise Unsupported(f"layout {layout!r}")
    names = [a for _, a in found]
    lone = {a.upper() for a in names} - {a for a in names if a.isupper()}
    if len(set(names)) != len(names) or lone:
        raise Unsupported(f"layout {layout!r}")
    return [(a, int(n or 0)) for n, a in found]


def to_layout(call: Call, x: relax.Expr, old: str, new: str) -> relax.Expr:
    """x in another layout. Split axes are joined first, then split anew, then permuted."""
    if old == new or not new:
        return x
    source, target = layout_axes(old), layout_axes(new)
    if {a.upper() for a, _ in source} != {a.upper() for a, _ in target}:
        raise Unsupported(f"layout {old} to {new}")
    if len(source) != call.rank(x):
        raise Unsupported(f"layout {old} of a tensor with {call.rank(x)} axes")
    x, plain = _joined(call, x, source)
    return _parted(call, x, plain, target)


def _joined(call: Call, x: relax.Expr, source: list[tuple[str, int]]) -> tuple[Any, list[str]]:
    """NCHWc -> N, C, c, H, W by permute_dims, then NCHW by reshape."""
    plain = [a for a, _ in source if a.isupper()]
    if len(plain) == len(source):
        return x, plain
    names = [a for a, _ in source]
    order = [n for p in plain for n in (p, p.lower()) if n in names]
    dims = dict(zip(names, call.dims(x), strict=True))
    x = call.do("permute_dims", x, [names.index(n) for n in order])
    return call.do("reshape", x, [dims[p] * dims.get(p.lower(), 1) for p in plain]), plain


def _parted(
    call: Call, x: relax.Expr, plain: list[str], target: list[tuple[str, int]]
) -> relax.Expr:
    factors = {a.upper(): n for a, n in target if a.islower()}
    dims, order = [], []
    for name, extent in zip(plain, call.dims(x), strict=True):
        factor = factors.get(name, 1)
        if factor < 1 or extent % factor:
            raise Unsupported(f"{extent} elements of axis {name} in parts of {factor}")
        dims += [extent // factor, factor] if name in factors else [extent]
        order += [name, name.lower()] if name in factors else [name]
    if factors:
        x = call.do("reshape", x, dims)
    axes = [order.index(a) for a, _ in target]
    return x if axes == sorted(axes) else call.do("permute_dims", x, axes)
