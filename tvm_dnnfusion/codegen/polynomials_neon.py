"""The forms of `polynomials` for A64: constants stay in registers, limits are one instruction.

An A64 instruction takes no constant from memory, and LLVM makes one anew wherever it is used, from
two moves and a copy to all lanes: a third of the instructions of a loop over e**x. A constant
behind an arithmetic fence (no instruction) is a value like any other, which LLVM computes before
the loop. FMAX and FMIN give NaN where an operand is one, as the forms ask of them; x86's do not.

    dup v5, 1118961664; fcmgt v7, v3, v5; bit v3, v5, v7        ->        fmin v3, v5, v3
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.polynomials import ROUNDER, Form


class NeonForm(Form):
    """As `Form`."""

    def f(self, value: float) -> Any:
        """A float constant for every lane, in a register."""
        return tirx.call_llvm_pure_intrin(self.floats, "llvm.arithmetic.fence", super().f(value))

    def rounder_bits(self) -> Any:
        """The bits of `ROUNDER`, from the register that holds it."""
        return self.bits(self.f(ROUNDER))

    def at_least(self, x: Any, low: float) -> Any:
        """max(x, low); NaN stays."""
        return self.let(tirx.call_llvm_pure_intrin(self.floats, "llvm.maximum", self.f(low), x))

    def at_most(self, x: Any, high: float) -> Any:
        """min(x, high); NaN stays."""
        return self.let(tirx.call_llvm_pure_intrin(self.floats, "llvm.minimum", self.f(high), x))
