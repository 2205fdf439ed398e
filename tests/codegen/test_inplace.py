"""Concats in place: the memory is really shared, nothing is copied, and the numbers are right."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.helpers import DEVICE, built, feed_of, run_module, unfused, weights
from tvm_dnnfusion.codegen.lower import lower
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.to_relax import stand_alone
from tvm_dnnfusion.pipeline import schedule_module
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.planners.dnnfusion import DNNFusionPlanner
from tvm_dnnfusion.report.stats import count
from tvm_dnnfusion.report.summary import summarise


def conv(b, x, out=16, kernel=3, seed=7):
    w = weights(b, out, b.tensors[x].dims[1], kernel, kernel, seed=seed)
    return b.op("nn.relu", b.op("nn.conv2d", x, w, padding=(kernel // 2,) * 4))


def join(b, *parts, axis=1):
    return b.op("concat", parts, axis=axis)


def fire(b):
    """Two branches side by side, as in SqueezeNet."""
    x = b.input("x", (1, 16, 9, 9))
    return conv(b, join(b, conv(b, x, 32, 1), conv(b, x, 16, 3)), 16)


def skip(b):
    """A part is read by others before and after it is joined, as in U-Net."""
    early = conv(b, b.input("x", (1, 16, 8, 8)))
    deep = conv(b, early, seed=2)
    out = conv(b, join(b, early, deep), seed=3)
    return b.op("add", out, early)


def dense(b):
    """A growing concat, each the front of the next, as DenseNet is exported in nested form."""
    x = conv(b, b.input("x", (1, 16, 8, 8)))
    for i in range(3):
        x = join(b, x, conv(b, x, seed=i))
    return conv(b, x, 16, 1)


def dense_flat(b):
    """The same written as torchvision does: every concat lists all parts anew."""
    parts = [conv(b, b.input("x", (1, 16, 8, 8)))]
    for i in range(3):
        x = join(b, *parts) if i else parts[0]
        parts.append(conv(b, x, seed=i))
    return conv(b, join(b, *parts), 16, 1)


def twice(b):
    """One tensor stands twice in one concat."""
    x = b.input("x", (1, 16, 8, 8))
    y = conv(b, x)
    return conv(b, join(b, y, conv(b, x, seed=2), y), 16, 1)


def outside(b):
    """A parameter and a constant are parts: they are copied."""
    x = b.input("x", (1, 16, 8, 8))
    w = weights(b, 1, 16, 8, 8)
    return conv(b, join(b, x, conv(b, x), w, conv(b, x, seed=2)), 16, 1)


def returned(b):
    """The joined tensor is a result, and so is one of its parts."""
    x = b.input("x", (1, 16, 8, 8))
    part = conv(b, x, seed=3)
    return join(b, conv(b, x), part, conv(b, x, seed=2)), part


def two_homes(b):
    """A part of two concats that are not inside each other."""
    x = b.input("x", (1, 16, 8, 8))
    a, c, d = (conv(b, x, seed=i) for i in range(3))
    left, right = join(b, a, c), join(b, d, a)
    return b.op("add", conv(b, left, 16, 1), conv(b, right, 16, 1))


def turned(b):
    """The parts of a later concat in another order: only one of the two can have them."""
    x = b.input("x", (1, 16, 8, 8))
    a, c = (conv(b, x, seed=i) for i in range(2))
    return conv(b, join(b, a, c), 16, 1), conv(b, join(b, c, a), 16, 1)


def siblings(b):
    """One kernel makes two parts of one buffer: the second is copied."""
    x = b.input("x", (1, 16, 8, 8))
    y = conv(b, x)
    two = b.op("sigmoid", y)
    return conv(b, join(b, y, conv(b, x, seed=2), two), 16, 1)


def batch(b):
    """Parts that are not contiguous in the joined tensor."""
    x = b.input("x", (3, 16, 8, 8))
    return conv(b, join(b, conv(b, x), conv(b, x, seed=2)), 16, 1)


def along_rows(b):
    x = b.input("x", (1, 16, 8, 8))
    return conv(b, join(b, conv(b, x), conv(b, x, seed=2), axis=2), 16, 1)


def along_columns(b):
    x = b.input("x", (4, 32))
    y, z = (b.op("matmul", x, weights(b, 32, n, seed=n)) for n in (48, 32))
    return b.op("nn.softmax", join(b, y, z, axis=-1), axis=-1)


def ragged_columns(b):
    """Rows that no register tile divides."""
    x = b.input("x", (19, 32))
    y, z = (b.op("matmul", x, weights(b, 32, n, seed=n)) for n in (48, 32))
    return b.op("nn.softmax", join(b, y, z, axis=-1), axis=-1)


def ragged_rows(b):
    x, y = b.input("x", (19, 32)), b.input("y", (13, 32))
    parts = (b.op("nn.relu", b.op("matmul", a, weights(b, 32, 48))) for a in (x, y))
    return b.op("nn.softmax", join(b, *parts, axis=0), axis=-1)


def odd_channels(b):
    """24 + 8 channels: blocks of half a vector serve both."""
    x = b.input("x", (1, 16, 8, 8))
    return conv(b, join(b, conv(b, x, 24), conv(b, x, 8)), 16, 1)


def normalised(b):
    """A part is read by a reduction over channels, which wants it row-major."""
    x = b.input("x", (1, 16, 8, 8))
    y = conv(b, x)
    z = conv(b, join(b, y, conv(b, x, seed=2)), 16, 1)
    return b.op("add", z, b.op("nn.softmax", y, axis=1))


def pooled(b):
    """A pooling is a part, as in Inception."""
    x = b.input("x", (1, 16, 8, 8))
    top = b.op("nn.max_pool2d", x, pool_size=(3, 3), padding=(1, 1, 1, 1))
    return conv(b, join(b, conv(b, x), top), 16, 1)


def own_kernel(b):
    """A part comes from a kernel of TVM's own, which knows no places."""
    x = b.input("x", (1, 16, 8, 8))
    y = b.op("cumsum", conv(b, x), axis=1)
    return conv(b, join(b, y, conv(b, x, seed=2)), 16, 1)


JOINED = {
    # graph: concats in place, parts copied
    fire: (1, 0), skip: (1, 0), dense: (3, 0), dense_flat: (3, 0), twice: (1, 1), outside: (1, 2),
    returned: (1, 1), two_homes: (2, 1), turned: (1, 0), siblings: (1, 1), batch: (1, 0),
    along_rows: (1, 0), along_columns: (1, 0), ragged_columns: (1, 0), ragged_rows: (1, 0),
    odd_channels: (1, 0), normalised: (1, 0),
    pooled: (1, 0), own_kernel: (1, 1),
}  # fmt: skip


def lowered(graph, **options):
    made = plan(extend(graph), DNNFusionPlanner(**options), device=DEVICE)
    return made, lower(stand_alone(graph), graph, made, DEVICE)


@pytest.mark.parametrize("make", JOINED, ids=lambda f: f.__name__)
def test_result_is_that_of_the_unfused_graph(make):
    graph = built(make)
    _, result = lowered(graph)
    feed = feed_of(graph)
    found = run_module(schedule_module(result.module, DEVICE), feed)
    for a, b in zip(found, unfused(graph, feed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("make", JOINED, ids=lambda f: f.__name__)
def test_no_kernel_joins_and_the_statistics_say_so(make):
    graph = built(make)
    made, result = lowered(graph)
    concats, copies = JOINED[make]
    assert make is own_kernel or result.reasons == {}
    assert list(result.kinds.values()).count("in place") == concats
    assert result.places == {p.tensor: p for p in made.places}
    kinds = [kind for kind in result.kinds.values() if kind not in ("in place", "view")]
    assert len([k for k in result.kernel_of if "_part" in k]) == copies
    assert len(result.kernel_of) == len(kinds) - kinds.count("relax") + copies
    assert count(summarise(extend(graph)), made).kernels == len(kinds) + copies


def calls(mod):
    """Calls of main after TVM's lowering: (function, arguments), and bytes by storage."""
    seq = [relax.transform.ToNonDataflow(), relax.transform.RemovePurityChecking(),
           relax.transform.CallTIRRewrite(), relax.transform.StaticPlanBlockMemory()]  # fmt: skip
    main = tvm.transform.Sequential(seq)(mod)["main"]
    alias, found, sizes = {}, [], []
    for block in main.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Var):
                alias[binding.var] = alias.get(value, value)
            elif isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
                found.append((value.op.name_hint, [alias.get(a, a) for a in value.args]))
            elif isinstance(value, relax.Call) and "alloc" in value.op.name:
                shape = (
                    binding.var.ty.shape if value.op.name != "relax.memory.alloc_storage" else None
                )
                if value.op.name == "relax.memory.alloc_storage":
                    sizes.append(int(value.args[0].values[0]))
                elif value.op.name == "relax.builtin.alloc_tensor":
                    sizes.append(4 * int(np.prod([int(n) for n in shape])))
    return found, sizes


def test_the_producers_write_one_buffer_and_the_consumer_reads_it():
    _, result = lowered(built(fire))
    found, _ = calls(result.module)
    assert len(found) == 3
    (_, first), (_, second), (_, last) = found
    buffer = first[-1]  # allocated for the first, which writes its part
    assert [int(n) for n in buffer.ty.shape] == [1, 3, 9, 9, 16]
    assert second[0].same_as(buffer) and last[0].same_as(buffer)
    assert not any(a.same_as(buffer) for a in second[1:])


def test_a_growing_concat_takes_no_more_memory_than_its_last():
    graph = built(dense)
    _, result = lowered(graph)
    found, sizes = calls(result.module)
    assert len(found) == 5
    assert sorted(sizes) == [16 * 64 * 4, 4 * 16 * 64 * 4]  # the result and the buffer
    before = calls(lowered(graph, in_place=False)[1].module)[1]
    assert sum(sizes) < sum(before)


def test_a_part_written_by_a_kernel_that_reads_its_neighbour():
    """The kernel of a later part takes the buffer twice: to read one part, to write another."""
    _, result = lowered(built(dense))
    found, _ = calls(result.module)
    buffer = found[0][1][-1]
    assert found[1][1][0].same_as(buffer)
    assert sum(a.same_as(buffer) for a in found[1][1]) == 2


def rotary(b):
    """Both halves come out of one product: one kernel does it all."""
    y = b.op("matmul", b.input("x", (4, 32)), weights(b, 32, 64))
    left, right = b.op("split", y, indices_or_sections=2, axis=1)
    return join(b, b.op("negative", right), left, axis=1)


def narrow(b):
    """Parts of 3 and 16 channels would force blocks of one channel on both."""
    x = b.input("x", (1, 16, 8, 8))
    return conv(b, join(b, conv(b, x, 3), conv(b, x, 16)), 16, 1)


def short_runs(b):
    x = b.input("x", (64, 32))
    return b.op("exp", join(b, *(b.op("matmul", x, weights(b, 32, n)) for n in (4, 8)), axis=1))


def light(b):
    x = b.input("x", (4, 32))
    return b.op("sqrt", join(b, b.op("exp", x), b.op("abs", x), axis=1))


@pytest.mark.parametrize("make", [rotary, narrow, short_runs, light],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_what_is_no_gain_or_not_legal_stays_a_kernel(make):
    graph = built(make)
    made, result = lowered(graph)
    assert made.places == () and "in place" not in result.kinds.values()
    feed = feed_of(graph)
    for a, b in zip(run_module(result.module, feed), unfused(graph, feed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))


def test_a_part_that_no_template_can_write_gives_its_place_up(monkeypatch):
    """Lowering may find out late; the concat is then copied, and the numbers are the same."""
    from tvm_dnnfusion.codegen import form as module
    from tvm_dnnfusion.codegen.stages import NotLowerable

    graph = built(fire)
    whole = module.lower_block

    def refusing(name, ops, *rest, **more):
        if ops[0].name == "conv2d":
            raise NotLowerable("not this one")
        return whole(name, ops, *rest, **more)

    monkeypatch.setattr(module, "lower_block", refusing)
    made, result = lowered(graph)
    assert made.places and not result.places
    assert list(result.reasons.values()) == ["not this one"]
    feed = feed_of(graph)
    np.testing.assert_allclose(
        run_module(result.module, feed)[0], unfused(graph, feed)[0], rtol=1e-4, atol=1e-4
    )
