"""The float32 forms behind `vecmath`: straight-line arithmetic that LLVM vectorises.

They take an element, or a vector of elements, and use nothing but what every LLVM target has:
products and sums (fused or not), comparisons with selection, shifts, and reinterpretation of bits.
There is no branch and no table. Bounds stand in `vecmath.ULP`; tests/codegen/test_vecmath.py holds
them over every binade, with and without fused multiply-add.

Coefficients are minimax for the relative error of the function on the interval named beside them,
found by linear programming (for quotients: Loeb's iteration), all in float64.

A NaN passes every form: where a comparison with it fails, the side that holds it is taken.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

_LOG2E = 1.4426950408889634
_LN2_HI, _LN2_LO = 0.693359375, -2.12194440e-4  # their sum is ln 2 to 40 bits (Cody, Waite 1980)
# Added to a float below 2**22, it leaves the nearest integer in the low bits: 1.5 * 2**23.
ROUNDER, _ROUNDER_BITS = 12582912.0, 0x4B400000

# (e**r - 1 - r) / r**2 on |r| < 0.347, error 2**-26.2 of e**r - 1
_EXP = (0.0013882519754368115, 0.008366580181605545, 0.04166720165120601, 0.1666654317871453,
        0.4999999814419002)  # fmt: skip
# (ln(1 + f) - f + f**2 / 2) / f**3 on [sqrt(1/2) - 1, sqrt(2) - 1], error 2**-27.3 of ln(1 + f)
_LOG = (-0.07634503852420678, 0.12761578862056608, -0.1316017989061477, 0.14201757138835042,
        -0.16623357455849663, 0.20001226922991613, -0.25000821035008375,
        0.33333331708318675)  # fmt: skip
# (2 atanh(s) - 2 s) / s**3 over s**2 on [0, 1/9], error 2**-27.7 of atanh
_ATANH = (0.28018786940913637, 0.28000532384394244, 0.4002159773452696, 0.6666641520485536)
# erf(x) / x over x**2 for |x| < 3.93, error 2**-25.6
_ERF_P = (2.0419421492938143e-06, 0.00028481038731629306, 0.003779719949195146,
          0.05279063106718247, 0.19078651098542185, 1.1283791453321683)  # fmt: skip
_ERF_Q = (3.800386870372601e-05, 0.001165238112500467, 0.014997661763071603, 0.11425862124274744,
          0.5024128622455324, 1.0)  # fmt: skip
# (Phi(x) - 1/2) / x over x**2 for |x| < 5.5, absolute error of Phi 2**-27
_PHI_P = (2.2749172193290225e-08, 6.3521409093445e-06, 0.0001688288456202187,
          0.004677279790614168, 0.033852957278964514, 0.3989422346147505)  # fmt: skip
_PHI_Q = (1.1974999780323834e-06, 7.36485268768115e-05, 0.0018844627094303686,
          0.02864604978772924, 0.2515226980190141, 1.0)  # fmt: skip


class Form:
    """An expression under construction: values that are used more than once are bound once."""

    def __init__(self, like: Any):
        self.floats = like.ty
        self.ints = str(like.ty.dtype).replace("float32", "int32")
        self.bound: list[tuple[Any, Any]] = []

    def f(self, value: float) -> Any:
        """A float constant for every lane."""
        return tirx.const(value, self.floats)

    def i(self, value: int) -> Any:
        """An integer constant for every lane."""
        return tirx.const(value, self.ints)

    def bits(self, x: Any) -> Any:
        """The bits of a float as an integer."""
        return tirx.reinterpret(self.ints, x)

    def real(self, bits: Any) -> Any:
        """The float that has these bits."""
        return tirx.reinterpret(self.floats, bits)

    def hidden(self, value: Any) -> Any:
        """The value, which TVM's analyser takes for 0.

        It puts values in place of variables, so that its work would grow exponentially along a form
        and over nested ones. It takes NaN == NaN for true and is content with the 0; LLVM, which
        knows better, keeps the value alone.
        """
        nan = tirx.reinterpret("float32", tirx.const(0x7FC00000, "int32"))
        return tirx.Select(tirx.EQ(nan, nan), tirx.const(0, value.ty), value)

    def let(self, value: Any) -> Any:
        """A variable that holds the value."""
        var = tirx.Var(f"t{len(self.bound)}", value.ty)
        self.bound.append((var, self.hidden(value)))
        return var

    def close(self, value: Any) -> Any:
        """The finished expression with its variables, hidden from the analyser as a whole.

        Where the expression is itself bound to a variable, the analyser would bind those inside it
        a second time, to something else, and fail.
        """
        for var, bound in reversed(self.bound):
            value = tirx.Let(var, bound, value)
        return self.hidden(value)

    def poly(self, x: Any, coefficients: tuple[float, ...]) -> Any:
        """Horner's scheme, highest power first."""
        acc = self.f(coefficients[0])
        for c in coefficients[1:]:
            acc = acc * x + self.f(c)
        return acc

    def at_least(self, x: Any, low: float) -> Any:
        """max(x, low); NaN stays, since the second operand is the one taken."""
        return self.let(tirx.max(self.f(low), x))

    def at_most(self, x: Any, high: float) -> Any:
        """min(x, high); NaN stays."""
        return self.let(tirx.min(self.f(high), x))

    def within(self, x: Any, bound: float) -> Any:
        """x between -bound and bound; NaN stays."""
        return self.at_most(self.at_least(x, -bound), bound)

    def power_of_two(self, n: Any) -> Any:
        """2**n for integers in [-126, 127]."""
        return self.real((n + self.i(127)) << self.i(23))

    def rounder_bits(self) -> Any:
        """The bits of `ROUNDER` for every lane."""
        return self.i(_ROUNDER_BITS)

    def reduced(self, x: Any, sign: int = 1) -> tuple[Any, Any]:
        """(e**r - 1, n) with sign x = n ln 2 + r and |r| <= ln(2) / 2, for |x| < 2**21."""
        shifted = self.let(x * self.f(sign * _LOG2E) + self.f(ROUNDER))
        n = self.let(self.bits(shifted) - self.rounder_bits())
        whole = self.let(shifted - self.f(ROUNDER))
        r = self.let(x - whole * self.f(sign * _LN2_HI) - whole * self.f(sign * _LN2_LO))  # sign r
        powers = (sign ** (len(_EXP) - 1 - i) for i in range(len(_EXP)))
        rest = r * r * self.poly(r, tuple(c * s for c, s in zip(_EXP, powers)))
        return self.let(rest + r if sign > 0 else rest - r), n

    def log1p_unit(self, z: Any) -> Any:
        """ln(1 + z) for z in [0, 1], by z - s (z - s**2 R(s**2)) with s = z / (2 + z)."""
        s = self.let(z / (self.f(2.0) + z))
        square = self.let(s * s)
        return z - s * (z - square * self.poly(square, _ATANH))


def exp(m: Form, x: Any) -> Any:
    """The power of two in two steps, so that results below 2**-126 and above 2**127 are right."""
    u, n = m.reduced(m.at_most(m.at_least(x, -104.0), 89.0))
    half = m.let(n >> m.i(1))
    return (u + m.f(1.0)) * m.power_of_two(half) * m.power_of_two(n - half)


def expm1(m: Form, x: Any) -> Any:
    """e**x - 1 = 2 (2**(n - 1) u + (2**(n - 1) - 1/2)): no cancellation for n = 0."""
    u, n = m.reduced(m.at_most(m.at_least(x, -18.0), 89.0))
    scale = m.let(m.power_of_two(n - m.i(1)))
    return (scale * u + (scale - m.f(0.5))) * m.f(2.0)


def _odds(m: Form, x: Any) -> Any:
    """2**-32 (1 + e**-x) for x >= -110; scaled, so that it does not overflow."""
    u, n = m.reduced(m.let(m.f(0.0) - m.at_most(x, 60.0)))
    return (u + m.f(1.0)) * m.power_of_two(n - m.i(32)) + m.f(2.0**-32)


def sigmoid(m: Form, x: Any) -> Any:
    """1 / (1 + e**-x)."""
    return m.f(2.0**-32) / _odds(m, m.at_least(x, -105.0))


def _gated(m: Form, x: Any, gate: Any) -> Any:
    """x / (1 + e**-gate) for gate >= -88, where e**-gate does not overflow."""
    u, n = m.reduced(m.at_most(gate, 60.0), -1)
    scale = m.let(m.power_of_two(n))
    return x / (scale * u + (scale + m.f(1.0)))


def silu(m: Form, x: Any) -> Any:
    """x / (1 + e**-x); below -88 what it is there, -5e-37."""
    x = m.at_least(x, -88.0)
    return _gated(m, x, x)


def gelu_tanh(m: Form, x: Any) -> Any:
    """x / 2 (1 + tanh v) = x / (1 + e**(-2 v)), v = sqrt(2 / pi) (x + 0.044715 x**3)."""
    x = m.at_least(x, -10.0)
    twice = x * (m.f(1.5957691216057308) + m.f(0.07135481627159825) * (x * x))
    return _gated(m, x, m.let(twice))


def gelu(m: Form, x: Any) -> Any:
    """x Phi(x); Phi(x) - 1/2 as x times a quotient of polynomials, which passes 1/2 at 5.6."""
    bounded = m.within(x, 5.75)
    square = m.let(bounded * bounded)
    excess = bounded * m.poly(square, _PHI_P) / m.poly(square, _PHI_Q)
    return x * (m.f(0.5) + m.within(m.let(excess), 0.5))


def tanh(m: Form, x: Any) -> Any:
    """y / (y + 2) with y = e**(2 |x|) - 1; the sign put back bit by bit."""
    size = m.let(m.real(m.bits(x) & m.i(0x7FFFFFFF)))
    u, n = m.reduced(m.at_most(m.let(size + size), 20.0))
    scale = m.let(m.power_of_two(n))
    y = m.let(scale * u + (scale - m.f(1.0)))
    return m.real(m.bits(y / (y + m.f(2.0))) | (m.bits(x) & m.i(-0x80000000)))


def erf(m: Form, x: Any) -> Any:
    """x times a quotient of polynomials in x**2, which passes 1 before 4."""
    bounded = m.within(x, 4.05)
    square = m.let(bounded * bounded)
    value = bounded * m.poly(square, _ERF_P) / m.poly(square, _ERF_Q)
    return m.within(m.let(value), 1.0)


def log(m: Form, x: Any) -> Any:
    """x = 2**k (1 + f); k ln 2 + (f - f**2 / 2 + f**3 P(f)), numbers below 2**-126 scaled up."""
    tiny = x < m.f(2.0**-126)  # no variable: TVM's analyser takes no vectors of booleans
    bits = m.bits(m.let(tirx.Select(tiny, x * m.f(2.0**23), x)))
    origin = m.i(0x3F3504F3)  # sqrt(1/2)
    above = m.let(bits - origin)
    k = (above >> m.i(23)) - tirx.Select(tiny, m.i(23), m.i(0))
    f = m.let(m.real((above & m.i(0x7FFFFF)) + origin) - m.f(1.0))
    whole, square = m.let(tirx.Cast(m.floats, k)), m.let(f * f)
    rest = whole * m.f(_LN2_LO) + square * (f * m.poly(f, _LOG) - m.f(0.5))
    value = m.let(whole * m.f(_LN2_HI) + (f + rest))
    value = tirx.Select(x < m.f(float("inf")), value, x)  # infinity and NaN
    value = tirx.Select(x < m.f(0.0), m.f(float("nan")), value)
    return tirx.Select(tirx.EQ(x, m.f(0.0)), m.f(float("-inf")), value)


def _decay(m: Form, size: Any) -> Any:
    """e**-size for size >= 0."""
    return exp(m, m.let(m.f(0.0) - size))


def softplus(m: Form, x: Any) -> Any:
    """ln(1 + e**x) = max(x, 0) + ln(1 + e**-|x|)."""
    size = m.real(m.bits(x) & m.i(0x7FFFFFFF))
    soft = m.log1p_unit(m.let(_decay(m, size)))
    return tirx.Select(x > m.f(0.0), x, m.f(0.0)) + soft


def log_add_exp(m: Form, a: Any, b: Any) -> Any:
    """ln(e**a + e**b) = max(a, b) + ln(1 + e**-|a - b|); equal infinities give themselves."""
    gap = m.let(tirx.Select(tirx.EQ(a, b), m.f(0.0), a - b))
    size = m.real(m.bits(gap) & m.i(0x7FFFFFFF))
    return tirx.Select(a > b, a, b) + m.log1p_unit(m.let(_decay(m, size)))


def tanh_softplus(m: Form, x: Any) -> Any:
    """tanh(ln(1 + e**x)) = n / (n + 2) with n = e (e + 2), e = e**x."""
    e = m.let(exp(m, m.at_most(x, 30.0)))
    n = m.let(e * (e + m.f(2.0)))
    return n / (n + m.f(2.0))


def mish(m: Form, x: Any) -> Any:
    """x tanh(ln(1 + e**x)) as (x e) (e + 2) / (e (e + 2) + 2); x itself from 20 on.

    The product x e is scaled in two steps, since e alone is below 2**-126 where x e is not.
    """
    low = m.at_least(x, -110.0)
    u, n = m.reduced(m.at_most(low, 30.0))
    half = m.let(n >> m.i(1))
    first, second = m.let(m.power_of_two(half)), m.let(m.power_of_two(n - half))
    unit = m.let(u + m.f(1.0))
    e = m.let(unit * first * second)
    upper = m.let(e + m.f(2.0))
    value = low * unit * first * second * (upper / (e * upper + m.f(2.0)))
    return tirx.Select(x > m.f(20.0), x, value)


def cosh(m: Form, x: Any) -> Any:
    """h + 1 / (4 h) with h = e**|x| / 2."""
    size = m.real(m.bits(x) & m.i(0x7FFFFFFF))
    u, n = m.reduced(m.at_most(m.let(size), 89.5))
    h = m.let((u + m.f(1.0)) * m.power_of_two(n - m.i(2)) * m.f(2.0))
    return h + m.f(0.25) / h


def sinh(m: Form, x: Any) -> Any:
    """y + y / (2 y + 1) with y = (e**|x| - 1) / 2; the sign put back bit by bit."""
    size = m.real(m.bits(x) & m.i(0x7FFFFFFF))
    u, n = m.reduced(m.at_most(m.let(size), 89.5))
    scale = m.let(m.power_of_two(n - m.i(2)))
    y = m.let((scale * u + (scale - m.f(0.25))) * m.f(2.0))
    value = y + m.at_most(y, 1e30) / (y + y + m.f(1.0))
    return m.real(m.bits(value) | (m.bits(x) & m.i(-0x80000000)))
