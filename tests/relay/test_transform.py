"""`relay.transform.Sequential([DNNFusionPass()])(mod)`, as scripts for Relay have it."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax

from tests.relay.cases import case, close
from tvm_dnnfusion import DNNFusionPass, relay
from tvm_dnnfusion.relay import transform

CPU = tvm.target.Target({"kind": "llvm"})


def test_the_words_hold_literally(tmp_path):
    found = case("model_mlp")
    path = found.save(tmp_path)
    mod = relay.load_json(path, params=path.with_suffix(".params"))
    mod = relay.transform.Sequential([DNNFusionPass()])(mod)
    assert isinstance(mod, tvm.IRModule)
    close(found.run(mod), found.outputs)


@pytest.mark.parametrize("form", ["module", "text", "path", "pair", "text and params"])
def test_what_sequential_takes(form, tmp_path):
    found = case("model_mlp")
    path = found.save(tmp_path)
    params = relay.load_params(found.params)
    open_mod = relay.load_json(found.text)
    given = {
        "module": found.load(),
        "text": case("let").text,
        "path": case("let").save(tmp_path),
        "pair": (open_mod, params),
        "text and params": (path, found.params),
    }[form]
    with CPU:
        out = relay.transform.Sequential([DNNFusionPass()], opt_level=3)(given)
    if form in ("text", "path"):
        close(case("let").run(out), case("let").outputs)
    else:
        assert len(out["main"].params) == 1
        close(found.run(out), found.outputs)


def test_what_sequential_refuses():
    with pytest.raises(TypeError, match="a module is an IRModule"):
        relay.transform.Sequential([])(42)


def test_it_is_a_pass_of_tvm():
    inner = relay.transform.Sequential([DNNFusionPass()], name="inner")
    with CPU, tvm.transform.PassContext(opt_level=3):
        out = tvm.transform.Sequential([relax.transform.Normalize(), inner])(case("let").load())
    assert "dnnfusion.plan" in out.attrs


def test_old_names_of_passes_have_their_relax_passes():
    for old, new in transform.SAME.items():
        assert getattr(relay.transform, old) is getattr(relax.transform, new)
    found = case("model_resnet8")
    steps = [transform.InferType(), transform.SimplifyInference(), transform.FoldConstant()]
    with CPU:
        out = transform.Sequential([*steps, DNNFusionPass()])(found.load())
    close(found.run(out), found.outputs)
    assert {*transform.SAME} <= set(dir(transform))


def test_names_of_passes_that_are_gone_say_what_to_do():
    for name, instead in transform.INSTEAD.items():
        with pytest.raises(AttributeError) as caught:
            getattr(relay.transform, name)
        assert instead in str(caught.value)
    assert not {*transform.SAME} & {*transform.INSTEAD}
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        relay.transform.Nothing  # noqa: B018
    with pytest.raises(AttributeError):
        relay.nothing  # noqa: B018
