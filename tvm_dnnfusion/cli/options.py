"""Options that several commands share, under the names that tvmc's users know."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import ranges

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """--json and --traceback, which every command takes."""
    command = click.option(
        "--traceback",
        "_traceback",
        is_flag=True,
        expose_value=False,
        help="Show the traceback of a fault instead of writing it to a file.",
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")(
        command
    )


def model(command: F) -> F:
    """MODEL and --input-shapes."""
    return click.argument("model", type=str)(input_shapes(command))


def input_shapes(command: F) -> F:
    """--input-shapes."""
    return click.option(
        "--input-shapes",
        metavar="SHAPES",
        callback=_shapes,
        help='Shapes of inputs that have symbolic dimensions: "data:[1,3,224,224] mask:[1,128]".',
    )(command)


def target(command: F) -> F:
    """--target."""
    return click.option(
        "--target",
        default="host",
        show_default=True,
        callback=_target,
        help='A device ("host", "cortex-a72"), or a TVM target: "llvm -mcpu=znver4" or JSON.',
    )(command)


def winograd(command: F) -> F:
    """--winograd and --winograd-memory."""
    command = click.option(
        "--winograd-memory",
        type=click.FloatRange(min=1),
        default=2.0,
        show_default=True,
        metavar="TIMES",
        help="How many times their memory all weights may take for Winograd's; inf: any.",
    )(command)
    return click.option(
        "--winograd",
        type=click.Choice(["0", "2", "4", "6"]),
        default="6",
        show_default=True,
        callback=lambda ctx, param, value: int(value),
        help="Largest m of Winograd's F(m, r) for 3x3 and 5x5 convolutions; 0 forbids it.",
    )(command)


def params(command: F) -> F:
    """--params."""
    return click.option(
        "--params",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Parameters of a Relay module, as save_param_dict wrote them.",
    )(command)


def threads(command: F) -> F:
    """--threads."""
    return click.option(
        "--threads",
        type=ranges.THREADS,
        metavar="N",
        help="Threads to run and measure with. Default: $DNNFUSION_THREADS, else all cores.",
    )(command)


def database(command: F) -> F:
    """--db."""
    return click.option(
        "--db",
        "database",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Profile database. Default: profile.sqlite in the cache folder.",
    )(command)


def building(command: F) -> F:
    """What decides how a model is compiled, as one argument `build` (see `cli.build.Build`)."""
    flags = (
        target,
        click.option(
            "--planner",
            default=None,
            metavar="NAME",
            help="Fusion planner: dnnfusion (default), tvm, none, or a registered one.",
        ),
        click.option(
            "--plan",
            "plan_file",
            type=click.Path(path_type=Path),
            metavar="plan.json",
            help="Apply this saved plan instead of planning.",
        ),
        click.option("--no-rewrite", is_flag=True, help="Leave the graph as it was imported."),
        click.option(
            "--no-reassociate",
            is_flag=True,
            help="Only rewriting rules that keep the order of roundings.",
        ),
        click.option(
            "--float16",
            is_flag=True,
            help="Convolutions and products in float16, on a device that computes in it; results "
            "are then compared with float16's tolerance.",
        ),
        click.option(
            "--float16-sums",
            type=click.Choice(["float16", "float32"]),
            help="What sums of float16 are kept in, with --float16 or for a model that is in "
            "float16 itself. Default: float16.",
        ),
        params,
        database,
        click.option(
            "--measure",
            is_flag=True,
            help="Measure the fusions that the profile database does not hold, and keep "
            "the figures there.",
        ),
        threads,
        winograd,
        click.option(
            "--tuning-records",
            metavar="FILE",
            help="Records of `dnnfusion tune`, or none. Default: the cache folder's, if any.",
        ),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from tvm_dnnfusion.cli.build import Build

        settings.read()  # a bad variable is said before any work, whichever step would read it
        names = (
            "target",
            "planner",
            "plan_file",
            "no_rewrite",
            "no_reassociate",
            "float16",
            "float16_sums",
            "params",
            "database",
            "measure",
            "threads",
            "winograd_memory",
            "tuning_records",
        )
        winograd = kwargs.pop("winograd")
        build = Build(
            **{n: kwargs.pop(n) for n in names},
            winograd=winograd,
            winograd_given=_given("winograd", "winograd_memory"),
            target_given=_given("target"),
        )
        return command(*args, build=build, **kwargs)

    out: Any = wrapped
    for flag in reversed(flags):
        out = flag(out)
    return out  # type: ignore[no-any-return]


def _given(*names: str) -> bool:
    """Whether the command at hand was called with one of these options."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return any(context.get_parameter_source(n) is not default for n in names)


def _shapes(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[str, tuple[int, ...]] | None:
    if value is None:
        return None
    from tvm_dnnfusion.frontend.shapes import parse_input_shapes

    return parse_input_shapes(value)


def _target(ctx: click.Context, param: click.Parameter, value: str) -> dict[str, object]:
    return parse_target(value)


def parse_target(text: str) -> dict[str, object]:
    """A target as the dictionary that TVM takes.

    Reads a device's name, JSON, tvmc's form ("llvm -mcpu=znver4 -mattr=+avx2,+fma") or a tag of
    TVM's. Raises click.BadParameter where it is none of these, or TVM refuses it.
    """
    from tvm_dnnfusion.devices import registry

    if text in registry.names():
        return registry.target_dict(registry.get(text))
    found = _from_json(text) if text.lstrip().startswith("{") else _from_words(text)
    complaint = _complaint(found)
    if complaint is not None:
        if isinstance(complaint, registry.DeviceError):  # it names the way out itself
            raise click.BadParameter(f"{text!r}: {complaint}", param_hint="--target")
        meant = registry.closest(text)
        if "Target kind" in str(complaint) and meant is not None:
            raise click.BadParameter(
                f"{text!r} is no device and no target of TVM; did you mean {meant!r}? "
                "`dnnfusion devices list` shows all devices",
                param_hint="--target",
            )
        raise click.BadParameter(
            f"{text!r} is no target: {complaint}. Give a device of `dnnfusion devices list`, "
            f'"llvm -mcpu=NAME", or JSON such as {{"kind": "llvm", "mcpu": "znver4"}}',
            param_hint="--target",
        )
    return dict(found)


def _from_json(text: str) -> Mapping[str, object]:
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}", param_hint="--target") from error


def _from_words(text: str) -> Mapping[str, object]:
    """tvmc's form: the kind, then -key=value."""
    words = shlex.split(text)
    if not words:
        return {}
    if "/" in words[0]:
        return {"tag": words[0]}
    out: dict[str, object] = {"kind": words[0]}
    for word in words[1:]:
        key, _, value = word.lstrip("-").partition("=")
        if key in ("mattr", "keys"):
            out[key] = value.split(",")
        else:
            out[key] = int(value) if value.isdecimal() else value
    return out


def _complaint(target: Mapping[str, object]) -> str | Exception | None:
    """Why TVM or LLVM refuses a target, in one line; None if they take it."""
    import tvm

    from tvm_dnnfusion.devices import registry

    try:
        made = tvm.target.Target(dict(target))
    except Exception as error:  # TVM raises whatever its parser met first
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else type(error).__name__
    kind = str(getattr(made.kind, "name", made.kind))
    builder = f"target.build.{kind}"
    if tvm.get_global_func(builder, allow_missing=True) is None:
        return f"this TVM was built without code generation for {kind}"
    try:
        registry.spec_for_target({**target, "kind": kind})
    except registry.DeviceError as error:
        return error
    return None
