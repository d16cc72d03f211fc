"""Layouts: words and codes, tables and rows."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.cluster.layout import Layout, layout_of
from rainshadow.errors import InputError, UnknownNameError


def test_degrees_multiply_to_the_chips():
    layout = layout_of(tensor_parallel=8, context_parallel=2, pipeline_parallel=4, data_parallel=16)
    assert layout.num_chips == 8 * 2 * 4 * 16


def test_a_table_of_layouts_is_one_layout_with_arrays():
    table = Layout(tensor_parallel=np.array([1, 2, 4]), pipeline_parallel=2)
    assert table.size == 3
    assert table.num_chips.tolist() == [2, 4, 8]
    assert table.row(2) == Layout(tensor_parallel=4, pipeline_parallel=2)
    assert table.take(np.array([True, False, True])).tensor_parallel.tolist() == [1, 4]


def test_choices_are_words_outside_and_codes_inside():
    layout = layout_of(recompute="full", precision="mxfp8")
    assert layout.describe()["recompute"] == "full"
    assert layout.describe()["precision"] == "mxfp8"


def test_unknown_words_and_impossible_degrees_are_refused():
    with pytest.raises(UnknownNameError, match="selective"):
        layout_of(recompute="selectiv")
    with pytest.raises(UnknownNameError, match="tensor_parallel"):
        layout_of(tensor_paralel=2)
    with pytest.raises(InputError, match="1 or more"):
        layout_of(tensor_parallel=0)
