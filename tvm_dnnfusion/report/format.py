"""Numbers and names as people read them; used by the tables, the explanations and the report."""

from __future__ import annotations

from collections.abc import Sequence

BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
FLOP_UNITS = ("", "K", "M", "G", "T", "P")


def bytes_text(size: float) -> str:
    """Bytes in binary units: 1536 -> "1.50 KiB"."""
    return _scaled(size, 1024, BYTE_UNITS)


def flops_text(flops: float) -> str:
    """Floating-point operations: 4.1e9 -> "4.10 GFLOP"."""
    value = _scaled(flops, 1000, FLOP_UNITS)
    return f"{value}FLOP" if value[-1].isalpha() else f"{value.rstrip()} FLOP"


def time_text(us: float) -> str:
    """Microseconds as µs, ms or s: 12500 -> "12.50 ms"."""
    if us < 1000:
        return f"{us:.2f} µs"
    return f"{us / 1e3:.2f} ms" if us < 1e6 else f"{us / 1e6:.2f} s"


def count_text(number: int) -> str:
    """A count with thousands apart: 12345 -> "12,345"."""
    return f"{number:,}"


def number_text(name: str, value: float) -> str:
    """A figure whose name ends in its unit: ("fused_us", 12.5) -> "12.50 µs"."""
    if name.endswith("_us"):
        return time_text(value)
    if name.endswith("bytes"):
        return bytes_text(value)
    if name.endswith("flops"):
        return flops_text(value)
    return count_text(int(value)) if float(value).is_integer() else f"{value:.4g}"


def unit_text(unit: str, value: float | None) -> str:
    """A cell of the before/after table; "-" where there is no value."""
    if value is None:
        return "-"
    forms = {"bytes": bytes_text, "flops": flops_text, "us": time_text}
    return forms[unit](value) if unit in forms else count_text(int(value))


def change_text(before: float, after: float) -> str:
    """The change in per cent: (200, 150) -> "-25.0 %"; "=" where nothing changed."""
    if before == after:
        return "="
    if not before:
        return "new"
    return f"{(after - before) / before * 100:+.1f} %"


def names_text(names: Sequence[str], limit: int = 3) -> str:
    """The first names and how many more: ("a", "b", "c", "d"), 2 -> "a, b, +2"."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, +{len(names) - limit}"


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    index = 0
    while abs(value) >= base and index < len(units) - 1:
        value /= base
        index += 1
    return f"{value:.0f} {units[0]}" if index == 0 else f"{value:.2f} {units[index]}"
