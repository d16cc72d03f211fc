"""All-reduce times computed by hand from published link figures."""

from __future__ import annotations

import pytest

from rainshadow.cluster.network import all_reduce_s, links_of
from rainshadow.cluster.sizing import sized
from rainshadow.errors import InputError
from rainshadow.machine import load_system
from rainshadow.sources import Ledger, Picker


def links(name: str):
    return links_of(load_system(name), Picker(Ledger()))


def test_one_chip_sends_nothing():
    assert all_reduce_s(1e9, links("trn2_chip")) == (0.0, "none")


def test_eight_h100_behind_a_switch_by_hand():
    """2 x 7/8 of 1 GB over 450 GB/s, and 14 steps of 3 us."""
    time, algorithm = all_reduce_s(1e9, links("p5_48xlarge"))
    assert algorithm == "axis_rings"
    assert time == pytest.approx(2 * 7 / 8 * 1e9 / 450e9 + 14 * 3e-6)


def test_ultraserver_is_not_isotropic():
    """The z axis has half the speed of x and y."""
    axes = {axis.kind: axis for axis in links("trn2_ultraserver").axes}
    x, y, z = links("trn2_ultraserver").axes
    assert axes.keys() == {"ring"}
    assert x.bandwidth_bytes_per_s == y.bandwidth_bytes_per_s == 2 * z.bandwidth_bytes_per_s


def test_large_sums_rotate_over_the_torus_axes():
    assert all_reduce_s(1e10, links("trn2_48xlarge"))[1] == "rotated_axes"


def test_rainier_goes_through_efa():
    time, algorithm = all_reduce_s(1e10, links("rainier"))
    assert algorithm == "hierarchical"
    shard = 1e10 / 64
    assert time > 2 * 255 / 256 * shard / 25e9


def test_a_size_that_no_box_of_the_torus_has_names_the_nearest():
    with pytest.raises(InputError, match="take 48 or 64 chips"):
        sized(load_system("trn2_ultraserver"), 63)
