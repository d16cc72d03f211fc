"""Objects of kernels are made as leniently as AWS's compiler makes them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rainshadow.nki import language as nl


class Sizes(nl.NKIObject):
    rows: int
    columns: int = 4
    later: int

    def __post_init__(self):
        self.size = self.rows * self.columns


@dataclass
class Config(nl.NKIObject):
    name: str
    scale: float


def test_annotations_are_the_constructor():
    assert (Sizes(rows=2).size, Sizes(3, 5).size) == (8, 15)
    assert Sizes(rows=2).later is None


def test_a_field_that_nobody_gives_is_none():
    class Plain(nl.NKIObject):
        rows: int
        square: bool = False

    assert (Plain().rows, Plain().square) == (None, False)


def test_unknown_names_and_too_many_values_are_refused():
    with pytest.raises(TypeError, match=r"Sizes\(rows, columns, later\) does not take depth"):
        Sizes(rows=2, depth=1)
    with pytest.raises(TypeError, match="4 values"):
        Sizes(1, 2, 3, 4)


def test_a_dataclass_may_leave_out_a_field():
    assert Config("a").scale is None


def test_a_class_with_a_constructor_of_its_own_keeps_it():
    class Own(nl.NKIObject):
        def __init__(self, value):
            self.value = value + 1

    assert Own(1).value == 2
