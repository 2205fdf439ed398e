"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.models import model_names


def count(text: str) -> int:
    """A whole number of at least one, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of 1 or more")
    return value


def duration(text: str) -> float:
    """Seconds, more than none, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, more than 0")
    return value


def within(kind: click.ParamType) -> Callable[[str], Any]:
    """One of `dnnfusion`'s ranges, for argparse."""

    def parse(text: str) -> Any:
        try:
            return kind.convert(text, None, None)
        except click.BadParameter as error:
            raise argparse.ArgumentTypeError(error.message) from error

    return parse


def models(sets: Mapping[str, tuple[str, ...]] | None = None) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names of models, or of the name of one set, for argparse."""

    def parse(text: str) -> tuple[str, ...]:
        names = (sets or {}).get(text) or tuple(text.split(","))
        unknown = [name for name in names if name not in model_names(zoo=True)]
        if unknown:
            raise argparse.ArgumentTypeError(f"no model {', '.join(unknown)}")
        return names

    return parse


def output(text: str) -> Path:
    """A path without suffix in a folder that can be written to, for argparse.

    Asked before anything is measured, not when the results are there.
    """
    path = Path(text)
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r}: cannot write to {folder}; name another folder")
    return path
