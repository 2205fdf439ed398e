"""The catalogue and the templates agree: what may be fused has a template, and the reverse."""

from tvm_dnnfusion.codegen.block import KINDS
from tvm_dnnfusion.ecg.entries import ENTRIES, OWN_KERNEL


def test_every_kind_that_may_be_fused_has_a_template():
    assert sorted(set(ENTRIES) - OWN_KERNEL - KINDS) == []


def test_every_template_is_of_a_kind_that_may_be_fused():
    assert sorted(KINDS - set(ENTRIES)) == []
    assert sorted(KINDS & OWN_KERNEL) == []


def test_kinds_with_a_kernel_of_their_own_are_known():
    assert sorted(OWN_KERNEL - set(ENTRIES)) == []
