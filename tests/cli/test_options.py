"""Targets and shapes as people write them."""

from __future__ import annotations

import click
import pytest

from tvm_dnnfusion.cli.options import parse_target
from tvm_dnnfusion.devices import registry


def test_a_device_stands_for_its_target():
    assert parse_target("host") == registry.target_dict(registry.host())
    assert parse_target("cortex-a72")["mcpu"] == "cortex-a72"


def test_tvmcs_form_is_read():
    assert parse_target("llvm -mcpu=x86-64-v3 -mattr=+avx2,+fma -num-cores=2") == {
        "kind": "llvm",
        "mcpu": "x86-64-v3",
        "mattr": ["+avx2", "+fma"],
        "num-cores": 2,
    }


def test_json_is_read():
    assert parse_target('{"kind": "llvm", "mcpu": "x86-64-v3"}')["mcpu"] == "x86-64-v3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lvm", "lvm"),
        ("", "no target"),
        ("{not json", "is not JSON"),
        ("[1]", "no target"),
        ("llvm -mcpu=nocpu9000", "nocpu9000"),
        ("llvm -nosuchflag=1", "nosuchflag"),
        ("no/such-tag", "no/such-tag"),
        ("metal", "metal"),
    ],
)
def test_wrong_targets_are_refused_with_what_is_right(text: str, words: str):
    with pytest.raises(click.BadParameter) as caught:
        parse_target(text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "meant"), [("cortex-77", "cortex-a77"), ("raspberry-pi4", "raspberry-pi-4")]
)
def test_a_device_with_a_slip_is_answered_with_the_one_that_is_meant(text: str, meant: str):
    with pytest.raises(click.BadParameter) as caught:
        parse_target(text)
    assert f"did you mean {meant!r}?" in caught.value.message
    assert len(caught.value.message) < 200, "not the list of all devices"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qcom/adreno-opencl-texture", "TVM 0.27 writes only the last channel"),
        ("cuda", "no device for targets of kind 'cuda'"),
        ('{"kind": "opencl", "device": "powervr"}', "the target's device is 'powervr'"),
        ("nonsense", "not defined"),
    ],
)
def test_a_refusal_begins_with_its_reason_and_points_to_the_devices(text, words):
    with pytest.raises(click.BadParameter) as refused:
        parse_target(text)
    message = refused.value.message
    assert words in message[: len(text) + 120]
    assert "`dnnfusion devices list`" in message
    assert "snapdragon" not in message, "all sixty devices would bury the reason"
