"""The loop nest of a Winograd kernel."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.tiles import by_lane
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.schedules.cpu import nest
from tvm_dnnfusion.schedules.cpu.lanes import fenced
from tvm_dnnfusion.schedules.cpu.winograd.epilogue import placed
from tvm_dnnfusion.schedules.cpu.winograd.lines import columns_transform, rows_transform
from tvm_dnnfusion.schedules.cpu.winograd.plan import Plan, shape_of
from tvm_dnnfusion.schedules.cpu.winograd.planes import Planes


class Loops:
    """The nest of one kernel."""

    def __init__(self, plan: Plan, fused: list[Any], keep: bool, device: DeviceSpec):
        self.p, self.fused, self.keep, cores = plan, fused, keep, device.cores
        self.by_lane = by_lane(device)
        p = plan
        self.together = p.groups < 2 * cores  # as Tiling.shared has it
        lead, depth = p.groups if self.together else 1, p.out_size[0]
        tile = (p.rows, p.vectors, p.lanes)
        data = (p.slices, p.register_tiles, p.channel_blocks, p.rows, p.lanes)
        self.v = Planes("data", (lead, p.points), data)
        self.m = Planes("prod", (p.points,), (depth, p.register_tiles, *tile))
        self.blocks = p.at_once
        self.buffers = [self.v.buffer, self.m.buffer]
        self.u: Planes | None = None
        if p.plain is not None:
            own = 1 if self.together else p.panels
            factors = (p.taps, self.blocks, p.lanes, p.vectors, p.lanes)
            self.u = Planes("weight", (own, p.points), factors)
            self.buffers.append(self.u.buffer)

    def body(self) -> Any:
        """All loops."""
        p = self.p
        if not self.together and self.u is not None:
            return nest.sequence(self.u.whole(), self._all_factors(self.u), self._groups())
        if not self.together:
            return self._groups()
        return nest.sequence(
            self.v.whole(),
            nest.loop(
                "gc",
                p.groups * p.channel_blocks,
                lambda i: self._data(i % p.groups, i % p.groups, i // p.groups),
                "parallel",
            ),
            nest.loop(
                "kg",
                p.groups * p.panels,
                lambda i: self._panel(i % p.groups, i % p.groups, i // p.groups),
                "parallel",
            ),
        )

    def _groups(self) -> Any:
        """Every core takes groups of its own."""
        p = self.p
        return nest.loop(
            "g",
            p.groups,
            lambda g: nest.sequence(
                self.v.whole(),
                nest.loop("c", p.channel_blocks, lambda c: self._data(g, nest.number(0), c)),
                nest.loop("k", p.panels, lambda k: self._panel(g, nest.number(0), k)),
            ),
            "parallel",
        )

    def _tile(self, g: Any, q: Any, r: Any) -> tuple[Any, Any, Any, Any]:
        """Number, image, row and column of a tile."""
        p = self.p
        tile = (g * p.register_tiles + q) * p.rows + r
        last: Any = tirx.min(tile, nest.number(p.tiles - 1))
        per_image = p.down * p.across
        return tile, last // per_image, last % per_image // p.across, last % p.across

    # V = B^T d B

    def _data(self, g: Any, at: Any, c: Any) -> Any:
        p = self.p
        return nest.loops(
            {"s": p.slices, "q": p.register_tiles, "r": p.rows},
            lambda s, q, r: self._data_tile(g, at, c, s, q, r),
        )

    def _data_tile(self, g: Any, at: Any, c: Any, s: Any, q: Any, r: Any) -> Any:
        p, a = self.p, self.p.t.alpha
        _, n, th, tw = self._tile(g, q, r)
        d, h, w = s - p.before[0], th * p.t.m - p.before[1], tw * p.t.m - p.before[2]
        depth, height, width = p.in_size
        whole = tirx.all(d >= 0, d < depth, h >= 0, h + a <= height, w >= 0, w + a <= width)
        where = (at, s, q, c, r)

        def element(i: int, j: int, lane: Any, guarded: bool) -> Any:
            place = (d, h + i, w + j) if len(shape_of(p.source)) == 6 else (h + i, w + j)
            x = nest.load(p.source, n, c, *place, lane)
            if not guarded:
                return x
            inside = tirx.all(
                d >= 0, d < depth, h + i >= 0, h + i < height, w + j >= 0, w + j < width
            )
            return tirx.if_then_else(inside, x, tirx.const(0.0, "float32"))

        fast = self._input_transform(where, lambda i, j, lane: element(i, j, lane, False))
        slow = self._input_transform(where, lambda i, j, lane: element(i, j, lane, True))
        return tirx.IfThenElse(whole, fast, slow)

    def _input_transform(self, where: tuple[Any, ...], element: Any) -> Any:
        """V = B^T d B in straight lines. (Loops over lines in place took 1.5 times as long.)"""
        p, a = self.p, self.p.t.alpha
        code = nest.Straight("input", p.lanes)
        half: list[list[Any]] = []
        for j in range(a):
            column = [code.let(element(i, j, code.lane)) for i in range(a)]
            half.append([code.let(x) for x in rows_transform(p.t.inputs, column, code)])
        at, s, q, c, r = where
        for i in range(a):
            row = rows_transform(p.t.inputs, [half[j][i] for j in range(a)], code)
            for j, x in enumerate(row):
                self.v.put(code, x, at, i * a + j, s, q, c, r)
        return self._closed(code)

    # U = G g G^T

    def _all_factors(self, into: Planes) -> Any:
        p = self.p

        def one(k: Any, c: Any) -> Any:
            return self._factors(into, k, c, c)

        return nest.loop(
            "kc",
            p.panels * p.folded,
            lambda i: one(i // p.folded, i % p.folded),
            "parallel",
        )

    def _factors(self, into: Planes, k: Any, c: Any, block: Any) -> Any:
        """The factors of a panel and a block of channels, the `block`-th of those that are held.

        A core's own factors are those of one panel.
        """
        p, a, taps = self.p, self.p.t.alpha, self.p.t.r
        at = 0 if self.together else k

        def factors(t: Any, i: Any, v: Any) -> Any:
            code = nest.Straight("factor", p.lanes)
            half: list[list[Any]] = []
            for column in range(taps):
                g = [
                    code.let(nest.load(p.plain, k, t, c, i, row * taps + column, v, code.lane))
                    for row in range(taps)
                ]
                half.append([code.let(x) for x in rows_transform(p.t.weights, g, code)])
            for row in range(a):
                line = rows_transform(p.t.weights, [h[row] for h in half], code)
                for column, x in enumerate(line):
                    into.put(code, x, at, row * a + column, t, block, i, v)
            return self._closed(code)

        return nest.loops({"t": p.taps, "i": p.lanes, "v": p.vectors}, factors)

    # M = sum V * U, y = A^T M A, epilogue

    def _panel(self, g: Any, at: Any, k: Any) -> Any:
        p = self.p
        depth = p.out_size[0]
        own = [self.u.whole()] if self.u is not None and self.together else []
        return nest.sequence(
            *own,
            self.m.whole(),
            nest.loop("j", p.folded // self.blocks, lambda j: self._products(at, k, j)),
            nest.loops(
                {"d": depth, "q": p.register_tiles, "r": p.rows},
                lambda d, q, r: self._out_tiles(g, k, d, q, r),
            ),
        )

    def _products(self, at: Any, k: Any, j: Any) -> Any:
        """What the j-th part of the channels adds to the products of a panel."""
        p = self.p
        first = j * self.blocks
        tiles = nest.loops(
            {"x": p.points, "d": p.out_size[0], "q": p.register_tiles},
            lambda x, d, q: self._register_tile(at, k, j, x, d, q),
        )
        if self.u is None or not self.together:
            return tiles
        into = self.u
        fresh = nest.loop("c", self.blocks, lambda c: self._factors(into, k, first + c, c))
        return nest.sequence(fresh, tiles)

    def _factor(self, k: Any, x: Any, tap: Any, c: Any, i: Any, v: Any, lane: Any) -> Any:
        """U of a block among those that are held."""
        if self.u is None:
            return nest.load(self.p.weights, k, x, tap, c, i, v, lane)
        return self.u.load(0 if self.together else k, x, tap, c, i, v, lane)

    def _register_tile(self, at: Any, k: Any, j: Any, x: Any, d: Any, q: Any) -> Any:
        p = self.p
        code = nest.Straight("sum", p.lanes)
        places = [(r, v) for r in range(p.rows) for v in range(p.vectors)]
        totals = {
            (r, v): code.let(self._before(j, self.m.load(x, d, q, r, v, code.lane)))
            for r, v in places
        }
        first = p.first(k) + j * self.blocks

        def multiply(tap: Any, c: Any, i: Any) -> Any:
            step = nest.Straight("sum", p.lanes)
            for r, v in places:
                total = totals[r, v]
                factor = self._factor(k, x, tap, c, i, v, code.lane)
                product = self.v.load(at, x, d + tap, q, first + c, r, i) * factor
                step.lane = code.lane
                step.store(total.source, total + product)
            return step.close()

        def by_vectors(tap: Any, c: Any) -> Any:
            step = nest.Straight("held", p.lanes)
            held = [
                step.let(fenced(self.v.load(at, x, d + tap, q, first + c, r, step.lane)))
                for r in range(p.rows)
            ]
            step.lane = code.lane
            for i in range(p.lanes):
                for r, v in places:
                    total = totals[r, v]
                    factor = self._factor(k, x, tap, c, i, v, code.lane)
                    step.store(total.source, total + nest.load(held[r].source, i) * factor)
            return self._closed(step)

        folds = {"t": p.taps, "c": self.blocks}
        if self.by_lane:
            code.add(nest.loops(folds, by_vectors))
        else:
            code.add(nest.loops({**folds, "i": p.lanes}, multiply))
        for r, v in places:
            self.m.put(code, totals[r, v], x, d, q, r, v)
        return self._closed(code)

    def _before(self, j: Any, total: Any) -> Any:
        """The sum before the j-th part of the channels."""
        zero = tirx.const(0.0, "float32")
        return zero if self.blocks == self.p.folded else tirx.Select(j == 0, zero, total)

    def _closed(self, code: nest.Straight) -> Any:
        self.buffers += code.registers
        return code.close()

    def _out_tiles(self, g: Any, k: Any, d: Any, q: Any, r: Any) -> Any:
        p = self.p
        tile, n, th, tw = self._tile(g, q, r)
        done = nest.loop("v", p.vectors, lambda v: self._out_tile(k, d, q, r, v, n, th, tw))
        if p.tiles == p.groups * p.register_tiles * p.rows:
            return done
        return tirx.IfThenElse(tile < p.tiles, done, None)

    def _out_tile(self, k: Any, d: Any, q: Any, r: Any, v: Any, n: Any, th: Any, tw: Any) -> Any:
        p, m = self.p, self.p.t.m
        h, w = th * m, tw * m

        def line(a: Any, b: Any) -> Any:
            place = (d, h + a, w + b) if len(shape_of(p.result)) == 6 else (h + a, w + b)
            block = k * p.vectors + v
            return nest.loop(
                "lane",
                p.lanes,
                lambda x: self._epilogue((n, block, *place, x), (a * m + b, d, q, r, v, x)),
                "vector",
            )

        rest = (_rest(p.out_size[1], h, m), _rest(p.out_size[2], w, m))
        return nest.sequence(
            self._output_transform(d, q, r, v),
            nest.loops({"a": rest[0], "b": rest[1]}, line),
        )

    def _output_transform(self, d: Any, q: Any, r: Any, v: Any) -> Any:
        p, a = self.p, self.p.t.alpha
        code = nest.Straight("output", p.lanes)
        half: list[list[Any]] = []
        for j in range(a):
            column = [code.let(self.m.load(i * a + j, d, q, r, v, code.lane)) for i in range(a)]
            half.append([code.let(x) for x in columns_transform(p.t.outputs, column, code)])
        for i in range(p.t.m):
            row = columns_transform(p.t.outputs, [half[j][i] for j in range(a)], code)
            for j, x in enumerate(row):
                self.m.put(code, x, i * p.t.m + j, d, q, r, v)
        return self._closed(code)

    def _epilogue(self, place: tuple[Any, ...], at: tuple[Any, ...]) -> Any:
        y = self.m.load(*at)
        written = [nest.store(self.p.result, y, *place)] if self.keep or not self.fused else []
        for block in self.fused:
            written.append(placed(block, self.p.result, y, place))
        return nest.sequence(*written)


def _rest(size: int, start: Any, m: int) -> Any:
    """Outputs of a tile along an axis that exist."""
    return m if size % m == 0 else tirx.min(nest.number(m), size - start)
