"""Values as functions: what is read twice is computed once, and conditions guard their reads."""

import tvm_ffi
from tvm import te, tirx

from tests.helpers import block_names, buffers, built, check_block, lowered
from tvm_dnnfusion.codegen.value import Body, Value, compute, load


def source(shape=(8, 16)):
    tensor = te.placeholder(shape, "float32", "x")
    return load(tensor, shape), tensor


def times(node, kind):
    """How often nodes of a kind stand in a TIR expression or function."""
    found = []
    tvm_ffi.structural_walk(node, [(kind, found.append)])
    return len(found)


def exponentials(func):
    """How often e**x is computed."""
    return func.script().count("dnnfusion.exp(")


def costly(x, readers):
    made = []

    def at(body, index):
        made.append(index)
        return tirx.sqrt(body.read(x, index))

    return Value(x.shape, "float32", at, readers), made


def test_a_value_that_is_read_twice_is_bound_once():
    x, _ = source()
    value, made = costly(x, readers=2)
    i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
    body = Body({i: 8, j: 16})
    first, second = body.read(value, (i, j)), body.read(value, (i, j))
    assert first.same_as(second) and len(made) == 1
    closed = body.close(first * second)
    assert isinstance(closed, tirx.Let) and times(closed, tirx.Let) == 1


def test_a_value_with_one_reader_is_not_bound():
    x, _ = source()
    value, _ = costly(x, readers=1)
    i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
    body = Body({i: 8, j: 16})
    assert times(body.close(body.read(value, (i, j))), tirx.Let) == 0


def test_other_indices_are_other_elements():
    x, _ = source()
    value, made = costly(x, readers=2)
    i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
    body = Body({i: 8, j: 16})
    closed = body.close(body.read(value, (i, j)) + body.read(value, (i, 15 - j)))
    assert len(made) == 2 and times(closed, tirx.Let) == 2


def test_reads_under_a_condition_are_bound_there():
    """x[i + 1] does not exist for the last i: no variable may read it outside of the condition."""
    x, placeholder = source((8,))
    value, made = costly(x, readers=3)

    def expr(body, index):
        after = body.simplify(index[0] + 1)
        once = (after,)
        return body.where(after < 8, lambda: body.read(value, once) * body.read(value, once),
                          lambda: tirx.const(0, "float32"))  # fmt: skip

    text = te.create_prim_func([placeholder, compute("out0", (8,), expr)]).script()
    assert len(made) == 1
    assert text.index("if_then_else") < text.index("T.sqrt")


def test_what_was_bound_before_a_condition_is_used_within():
    x, _ = source((8,))
    value, made = costly(x, readers=2)
    i = tirx.Var("i", "int32")
    body, index = Body({i: 8}), (i,)
    outside = body.read(value, index)
    inside = body.where(i < 4, lambda: body.read(value, index), lambda: tirx.const(0, "float32"))
    assert len(made) == 1 and times(inside, tirx.Let) == 0
    assert times(body.close(outside + inside), tirx.Let) == 1


def test_what_was_bound_in_one_case_is_not_seen_in_the_other():
    x, _ = source((8,))
    value, made = costly(x, readers=2)
    i = tirx.Var("i", "int32")
    body, index = Body({i: 8}), (i,)
    body.where(i < 4, lambda: body.read(value, index), lambda: body.read(value, index))
    assert len(made) == 2


def test_a_condition_that_always_holds_is_none():
    i = tirx.Var("i", "int32")
    body = Body({i: 8})
    chosen = [body.where(c, lambda: "then", lambda: "else") for c in (i < 8, i >= 8, True, False)]
    assert chosen == ["then", "else", "then", "else"]


def test_positions_are_never_variables():
    x, _ = source((8,))
    value, _ = costly(x, readers=2)
    i = tirx.Var("i", "int32")
    body, index = Body({i: 8}), (i,)
    body.read(value, index)
    assert times(body.position(value, index), tirx.Let) == 0
    assert not isinstance(body.position(value, index), tirx.Var)


def test_a_shared_sub_expression_is_computed_once_per_element():
    def make(b):
        e = b.op("exp", b.input("x", (8, 16)))
        return b.op("divide", b.op("subtract", e, 1.0), b.op("add", e, 1.0))

    func = lowered(built(make)).func
    assert exponentials(func) == 1 and block_names(func) == ["out0"]


def test_a_diamond_of_many_ops_stays_small():
    def make(b):
        x = b.op("exp", b.input("x", (8, 16)))
        for _ in range(12):
            x = b.op("add", b.op("nn.relu", x), b.op("multiply", x, x))
        return x

    func = lowered(built(make)).func
    assert exponentials(func) == 1 and len(func.script()) < 10_000


def test_a_value_read_at_two_places_is_computed_for_each():
    def make(b):
        e = b.op("exp", b.input("x", (16, 16)))
        return b.op("add", e, b.op("permute_dims", e, axes=(1, 0)))

    graph = built(make)
    assert exponentials(lowered(graph).func) == 2
    assert buffers(check_block(graph, "map")) == {}


def test_each_part_of_a_concatenation_is_computed_only_where_it_stands():
    def make(b):
        x = b.input("x", (8, 4))
        e = b.op("exp", x)
        low = b.op("multiply", e, e)
        return b.op("concat", (low, b.op("add", x, 1.0)), axis=1)

    graph = built(make)
    text = lowered(graph).func.script()
    assert exponentials(lowered(graph).func) == 1
    assert text.index("if_then_else") < text.index("dnnfusion.exp(")
    check_block(graph, "map")


def test_padding_does_not_read_outside_of_its_operand():
    def make(b):
        e = b.op("exp", b.input("x", (5, 7)))
        return b.op("nn.pad", b.op("multiply", e, e), pad_width=(2, 1, 3, 3), pad_value=0.5)

    graph = built(make)
    text = lowered(graph).func.script()
    assert text.index("if_then_else") < text.index("dnnfusion.exp(")
    check_block(graph, "map")
