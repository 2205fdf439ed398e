"""Files that are no Relay modules, or damaged ones, give errors that say so; nothing crashes."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

from tests.relay.builder import Relay, blob, params_file, unary
from tests.relay.cases import ARCHIVED, case
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.frontend.errors import (
    InputError,
    InputNameError,
    InputShapeError,
    MissingShapeError,
    ModelNotFoundError,
    NotOnnxError,
    ParamsError,
)
from tvm_dnnfusion.relay import load_json, load_params, looks_like_relay, reader
from tvm_dnnfusion.relay.errors import (
    CyclicRelayError,
    DamagedRelayError,
    NotRelayError,
    OversizedRelayError,
    RelayError,
    RelayParamsError,
    RelayUnsupportedError,
    TruncatedRelayError,
)

RELU = unary("nn.relu", (2, 3))


def changed(text: str, kind: str, **fields: str) -> str:
    """The module with fields of its first node of this kind replaced."""
    graph = json.loads(text)
    node = next(n for n in graph["nodes"] if n["type_key"] == kind)
    node.setdefault("attrs", {}).update(fields)
    return json.dumps(graph)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["let", "model_resnet8"])
def test_a_truncated_file(name: str, share: float, tmp_path):
    text = case(name).text
    path = tmp_path / "cut.json"
    path.write_text(text[: int(len(text) * share)])
    with pytest.raises(TruncatedRelayError, match="cut off after") as caught:
        load(path)
    assert caught.value.exit_code == 2 and str(path) in str(caught.value)


def test_a_truncated_parameter_file_at_every_length():
    whole = params_file({"w": np.ones((2, 3), "float32"), "bias": np.ones(3, "float32")})
    assert set(load_params(whole)) == {"w", "bias"}
    for length in range(24, len(whole)):
        with pytest.raises(TruncatedRelayError):
            load_params(whole[:length])
    with pytest.raises(NotRelayError, match="mark"):
        load_params(whole[:20])
    with pytest.raises(DamagedRelayError, match="3 bytes follow"):
        load_params(whole + b"abc")


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model", "model.txt"])
def test_a_renamed_relay_file_is_known_by_its_content(name: str, tmp_path):
    path = case("let").save(tmp_path, name)
    assert looks_like_relay(path)
    assert [str(n) for n in load(str(path))["main"].attrs["input_names"]] == ["x0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nodes": [], "arg_nodes": [], "heads": [], "node_row_ptr": []}', "compiled library"),
        ('{"root_index": 0, "nodes": []}', "without Relay"),
        ('{"nodes": [{"type_key": ""}]}', "no root, b64ndarrays"),
        ('#[version = "0.0.5"]\ndef @main(%x) { nn.relu(%x) }', "text format"),
    ],
)
def test_other_files_of_tvm_are_named(text: str, said: str, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(NotRelayError, match=said):
        load(path)


def test_an_onnx_file_that_is_called_json_stays_one(tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(b"\x08\x08\x12\x07pytorch")
    assert not looks_like_relay(path)
    with pytest.raises(InputError) as caught:
        load(path)
    assert not isinstance(caught.value, RelayError)
    path.write_text('{"other": 1}')
    with pytest.raises(NotOnnxError):
        load(path)
    with pytest.raises(NotRelayError, match="no JSON"):
        load_json(b"{what")
    with pytest.raises(NotRelayError, match="JSON list"):
        load_json(b"[1]")
    with pytest.raises(ModelNotFoundError):
        load_json(tmp_path / "absent.json")


def test_an_expression_made_from_itself():
    r = Relay()
    x = r.var("x", (2,))
    a = r.call("nn.relu", x)
    b = r.call("add", a, x)
    r.nodes[int(r.nodes[a]["attrs"]["args"])]["data"] = [b]
    with pytest.raises(CyclicRelayError, match=f"Call of node {b} is made from itself"):
        load_json(r.module([x], b))


def test_a_let_chain_that_bites_its_tail():
    r = Relay()
    x, v = r.var("x", (2,)), r.var("v")
    let = r.let(v, r.call("exp", x), 0)
    r.nodes[let]["attrs"]["body"] = str(let)
    with pytest.raises(CyclicRelayError, match="Let"):
        load_json(r.module([x], let))


def test_a_tuple_and_an_array_that_hold_themselves():
    r = Relay()
    x = r.var("x", (2,))
    t = r.tuple(x)
    r.nodes[int(r.nodes[t]["attrs"]["fields"])]["data"] = [t]
    with pytest.raises(CyclicRelayError, match="Tuple"):
        load_json(r.module([x], t))
    r = Relay()
    x = r.var("x", (2,))
    call = r.call("reshape", x, struct="ReshapeAttrs", newshape=(2,))
    shape = next(i for i, n in enumerate(r.nodes) if n["type_key"] == "Array")
    for node in r.nodes:
        if node["type_key"] == "relay.attrs.ReshapeAttrs":
            shape = int(node["attrs"]["newshape"])
    r.nodes[shape]["data"] = [shape]
    with pytest.raises(RelayUnsupportedError, match="holds a Array"):
        load_json(r.module([x], call))


def test_a_function_that_calls_itself():
    r = Relay()
    x, y, name = r.var("x", (2,)), r.var("y", (2,)), r.name("loop")
    r.define(name, r.function([y], r.apply(name, r.call("exp", y))))
    with pytest.raises(CyclicRelayError, match=r"loop .* calls itself"):
        load_json(r.module([x], r.apply(name, x)))


def test_functions_that_unfold_without_end():
    """Twenty functions, each of which calls the one before twice: a million calls from a page."""
    r = Relay()
    y = r.var("y", (2,))
    name = r.name("f0")
    r.define(name, r.function([y], r.call("exp", y)))
    for k in range(1, 21):
        y = r.var("y", (2,))
        body = r.apply(name, r.apply(name, y))
        name = r.name(f"f{k}")
        r.define(name, r.function([y], body))
    x = r.var("x", (2,))
    with pytest.raises(OversizedRelayError, match="unfold into more than"):
        load_json(r.module([x], r.apply(name, x)))


def test_branches_inside_branches_without_end():
    r = Relay()
    x, c = r.var("x", (2,)), r.var("c", (), "bool")
    value = x
    for _ in range(70):
        value = r.branch(c, r.call("exp", value), x)
    with pytest.raises(OversizedRelayError, match="inside each other"):
        load_json(r.module([x, c], value))


def test_oversized_files(monkeypatch, tmp_path):
    path = tmp_path / "big.json"
    path.write_text(RELU)
    monkeypatch.setattr(reader, "MAX_BYTES", 100)
    for given in (path, RELU):
        with pytest.raises(OversizedRelayError, match="of at most 100"):
            load_json(given)
    monkeypatch.setattr(reader, "MAX_BYTES", 10**6)
    monkeypatch.setattr(reader, "MAX_NODES", 10)
    with pytest.raises(OversizedRelayError, match="nodes, of at most 10"):
        load_json(path)


def test_tensors_that_announce_more_than_is_there():
    data = bytearray(params_file({"w": np.ones((2, 3), "float32")}))
    shape = len(data) - 24 - 8 - 16
    data[shape : shape + 8] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(DamagedRelayError, match="takes 13194139533312 bytes, not 24"):
        load_params(bytes(data))
    count = bytearray(params_file({}))
    count[16:24] = (1 << 60).to_bytes(8, "little")
    with pytest.raises(TruncatedRelayError, match="names in"):
        load_params(bytes(count))


def test_shapes_that_no_machine_holds():
    with pytest.raises(OversizedRelayError, match="the input x has"):
        load_json(unary("nn.relu", (1 << 30, 1 << 30)))
    with pytest.raises(RelayUnsupportedError, match="a tensor of"):
        load_json(unary("tile", (1024,), struct="TileAttrs", reps=(1 << 30, 1 << 30)))
    r = Relay()
    full = r.call("broadcast_to", r.const([1.0]), struct="InitOpAttrs", shape=(1 << 15, 1 << 15))
    with pytest.raises(RelayUnsupportedError, match="a constant of 1073741824 elements"):
        load_json(r.module([], full))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed(RELU, "relay.Call", args="999"), "refers to node 999"),
        (changed(RELU, "relay.Call", args="-3"), "not an index"),
        (changed(RELU, "relay.Call", op="x"), "not an index"),
        (changed(RELU, "relay.Call", op="0"), "an expression is missing"),
        (changed(RELU, "relay.Function", body="0"), "an expression is missing"),
        (changed(RELU, "IRModule", functions="1"), "its functions are no map"),
        (changed(RELU, "relay.TensorType", dtype="float33"), "the data type 'float33'"),
        (changed(RELU, "relay.Var", type_annotation="0", _checked_type_="0"), "no tensor type"),
        (RELU.replace('"root": ', '"root": 9'), "is none of its"),
        (RELU.replace('"type_key": "relay.Var"', '"type_kez": "relay.Var"'), "has no type"),
    ],
)
def test_damaged_files(text: str, said: str):
    with pytest.raises(DamagedRelayError, match=re.escape(said)):
        load_json(text)


def test_a_damaged_constant():
    r = Relay()
    text = r.module([], r.call("exp", r.const([1.0, 2.0])))
    good = r.blobs[0]
    for bad in ("%%%", good[:-8], good[8:], ""):
        with pytest.raises(DamagedRelayError, match="tensor 0"):
            load_json(text.replace(good, bad))
    with pytest.raises(DamagedRelayError, match="tensor 7 of 1"):
        load_json(changed(text, "relay.Constant", data="7"))


def test_json_that_is_nested_too_deep():
    text = '{"root": 1, "nodes": ' + "[" * 200000 + "]" * 200000 + ', "b64ndarrays": []}'
    with pytest.raises(DamagedRelayError):
        load_json(text)


def test_random_damage_never_crashes():
    """Every change of a genuine file either loads or gives an InputError."""
    rng = random.Random(7)
    small = [n for n in ARCHIVED if not n.startswith("model")]
    outcomes = set()
    for _ in range(400):
        graph = json.loads(case(rng.choice(small)).text)
        for _ in range(rng.choice((1, 2))):
            _damage(graph["nodes"], rng)
        try:
            load_json(json.dumps(graph))
            outcomes.add("loaded")
        except InputError as error:
            outcomes.add(type(error).__name__)
    assert {"loaded", "DamagedRelayError", "RelayUnsupportedError"} <= outcomes


def _damage(nodes: list, rng: random.Random) -> None:
    node = nodes[rng.randrange(1, len(nodes))]
    texts = ("0", "-1", "3", "99999999999", "", "x", str(rng.randrange(len(nodes))), "nan")
    if node.get("attrs") and rng.random() < 0.6:
        node["attrs"][rng.choice(list(node["attrs"]))] = rng.choice(texts)
    elif node.get("data"):
        node["data"][rng.randrange(len(node["data"]))] = rng.randrange(len(nodes))
    else:
        node["type_key"] = rng.choice(nodes)["type_key"]


def test_parameters_that_do_not_fit():
    r = Relay()
    x, w = r.var("x", (2, 3)), r.var("w", (4, 3))
    text = r.module([x, w], r.call("nn.dense", x, w, struct="DenseAttrs", out_dtype=""))
    good = np.ones((4, 3), "float32")
    for given in ({"w": good}, params_file({"w": good})):
        assert len(load_json(text, given)["main"].params) == 1
    assert len(load_json(text)["main"].params) == 2
    with pytest.raises(RelayParamsError, match=r"w is float32\[3, 3\]"):
        load_json(text, {"w": np.ones((3, 3), "float32")})
    with pytest.raises(RelayParamsError, match="w is float64"):
        load_json(text, {"w": good.astype("float64")})
    with pytest.raises(RelayParamsError, match="none of the 1 parameters"):
        load_json(text, {"v": good})
    with pytest.warns(UserWarning, match="no parameters v"):
        load_json(text, {"w": good, "v": good})
    with pytest.raises(RelayParamsError, match="no tensor"):
        load_json(text, {"w": object()})
    with pytest.raises(RelayParamsError, match="cannot be read"):
        load_json(text, "absent.params")


def test_parameters_beside_an_onnx_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    with pytest.raises(ParamsError, match="not a Relay module"):
        load(path, params=blob(np.ones(1)))


def test_open_extents():
    r = Relay()
    x = r.var("x", (None, 3))
    text = r.module([x], r.call("nn.relu", x))
    with pytest.raises(MissingShapeError, match=re.escape('--input-shapes "x:[1,3]"')):
        load_json(text)
    mod = load_json(text, shapes={"x": (5, 3)})
    assert [int(d) for d in mod["main"].ret_ty.shape.values] == [5, 3]
    assert load_json(text, allow_symbolic=True)["main"].params[0].ty.ndim == 2
    with pytest.raises(InputShapeError):
        load_json(text, shapes={"x": (5, 4)})
    with pytest.raises(InputNameError):
        load_json(text, shapes={"y": (5, 4)})
