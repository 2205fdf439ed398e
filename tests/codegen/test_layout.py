"""Layouts: the place of an index in memory, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import logical, stored
from tvm_dnnfusion.codegen.layout import PLAIN, Layout


@st.composite
def blocked(draw):
    factor = draw(st.sampled_from([2, 4, 8]))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] *= factor
    return Layout(axis, factor), tuple(shape)


@given(blocked())
def test_place_and_index_are_inverse_and_cover_the_memory(case):
    layout, shape = case
    places = [layout.index(i) for i in np.ndindex(*shape)]
    memory = layout.shape(shape)
    assert sorted(places) == sorted(np.ndindex(*memory))
    assert [layout.logical(p) for p in places] == list(np.ndindex(*shape))


@given(blocked())
def test_it_is_the_transposition_that_numpy_does(case):
    layout, shape = case
    data = np.arange(np.prod(shape)).reshape(shape)
    kept = stored(data, layout)
    assert kept.shape == layout.shape(shape)
    for index in np.ndindex(*shape):
        assert kept[layout.index(index)] == data[index]
    np.testing.assert_array_equal(logical(kept, layout), data)


def test_nchw16c():
    layout = Layout(1, 16)
    assert layout.shape((1, 64, 7, 7)) == (1, 4, 7, 7, 16)
    assert layout.index((0, 35, 2, 3)) == (0, 2, 2, 3, 3)
    assert layout.logical((0, 2, 2, 3, 3)) == (0, 35, 2, 3)
    assert str(layout) == "blocked(axis=1, 16)"


@pytest.mark.parametrize("layout", [PLAIN, Layout(1, 1)])
def test_row_major_changes_nothing(layout):
    assert not layout.blocked and str(layout) == "plain"
    assert layout.shape((2, 3)) == layout.index((2, 3)) == layout.logical((2, 3)) == (2, 3)
