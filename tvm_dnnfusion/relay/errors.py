"""What can be wrong with a Relay file, as typed errors; the command line leaves with 2 for each."""

from __future__ import annotations

from tvm_dnnfusion.frontend.errors import InputError

SAVE_AGAIN = "Write it again with tvm.ir.save_json(mod) of the TVM that has the model"
COPY_AGAIN = "Copy or download the file again"


class RelayError(InputError):
    """A Relay module, or its parameters, cannot be used."""


class NotRelayError(RelayError):
    """The text is not a Relay module that tvm.ir.save_json wrote."""


class TruncatedRelayError(RelayError):
    """The file starts as a Relay module, or as parameters, and ends too early."""


class DamagedRelayError(RelayError):
    """The file breaks its own format: an index, a size or a field is wrong."""


class CyclicRelayError(RelayError):
    """An expression is made from itself, or a function calls itself."""


class OversizedRelayError(RelayError):
    """The file announces, or unfolds into, more than can be meant."""


class RelayParamsError(RelayError):
    """Parameters do not fit the module."""


class RelayUnsupportedError(RelayError):
    """Some calls have no Relax form.

    `operators` maps each Relay operator (or construct) to (place, reason) of its calls.
    """

    def __init__(self, source: str, operators: dict[str, tuple[tuple[str, str], ...]]) -> None:
        self.operators = operators
        super().__init__(
            source,
            "these have no Relax form: " + "; ".join(_line(op, at) for op, at in operators.items()),
            "docs/relay.md lists what is taken; replace the others in Relay before saving",
        )


def _line(operator: str, calls: tuple[tuple[str, str], ...], most: int = 3) -> str:
    """One operator with the reasons and the places of its first calls."""
    reasons = dict.fromkeys(reason for _, reason in calls)
    places = ", ".join(place for place, _ in calls[:most])
    rest = f" and {len(calls) - most} more" if len(calls) > most else ""
    return f"{operator}: {'; '.join(reasons)} (at {places}{rest})"
