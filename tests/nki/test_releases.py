"""Calls as the releases from 0.2 to 0.6 write them; views and tensors used as they cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.errors import NkiValidationError
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.nki import simulate

X = np.arange(32, dtype=np.float32).reshape(4, 8)


def through_sbuf(body, x=X):
    """What body(tile, result) leaves in `result`, a tile of the shape of x."""

    def kernel(x):
        tile, result = nl.ndarray(x.shape, nl.float32), nl.ndarray(x.shape, nl.float32)
        out = nl.ndarray(x.shape, nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(tile, x)
        nisa.memset(result, 1.0)
        body(tile, result)
        nisa.dma_copy(out, result)
        return out

    return simulate(kernel)(x)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda t, r: nisa.dma_compute(r, [t, t], [1.0, 1.0], nl.add), 2 * X),
        (lambda t, r: nisa.dma_compute(r, [t, t], nl.add, scales=[1.0, 1.0]), 2 * X),
        (lambda t, r: nisa.dma_copy(r, t, dst_rmw_op=nl.add, unique_indices=True), X + 1),
        (lambda t, r: nisa.affine_select(r, [[1, 8]], -2, 0, t, 5.0),
         np.where(np.arange(8) == 2, X, 5)),
        (lambda t, r: nisa.affine_select(r, [[1, 8]], 0, t, 5.0, offset=-2),
         np.where(np.arange(8) == 2, X, 5)),
        (lambda t, r: nisa.tensor_copy(r, t, engine=5), X),
        (lambda t, r: nisa.dma_copy(r, t, dge_mode=2), X),
        (lambda t, r: nisa.dma_copy(r, t, oob_mode=1), X),
    ],
)  # fmt: skip
def test_calls_of_every_release_give_the_same(body, expected):
    assert (through_sbuf(body) == expected).all()


def test_register_move_takes_imm_and_buffers_may_be_strings():
    def kernel(x):
        register = nisa.register_alloc()
        nisa.register_move(register, imm=3)
        tile = nl.ndarray((4, 8), nl.float32, buffer="psum")
        return int(register), tile.buffer

    assert simulate(kernel)(X) == (3, nl.psum)


def test_hardware_descriptors_convert_nothing():
    with pytest.raises(NkiValidationError, match="one dtype"):
        through_sbuf(
            lambda t, r: nisa.dma_copy(
                nl.ndarray(t.shape, nl.bfloat16), t, dge_mode=nisa.dge_mode.hwdge
            )
        )


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x: x + x, r"a Python operator on.*\n.*\n.*\n.*nl\.add"),
        (lambda x: 2.0 * x, "a Python operator"),
        (lambda x: x > 0, "a Python operator"),
        (lambda x: float(x), "a Python operator"),
        (lambda x: x.broadcast(5, 3), r"axis 5.*\n.*0\.\.1"),
        (lambda x: x.expand_dim(1).broadcast(1, -3), "to -3"),
        (lambda x: x.expand_dim(9), r"0\.\.2"),
        (lambda x: x.squeeze_dim(9), r"0\.\.1"),
        (lambda x: x.slice(7, 0, 1), r"0\.\.1"),
        (lambda x: x.select(7, 0), r"0\.\.1"),
        (lambda x: x.flatten_dims(0, 9), r"0\.\.1"),
        (lambda x: x.flatten_dims(1, 0), "end >= start"),
        (lambda x: x.reshape_dim(1, (0, -1)), "product"),
        (lambda x: x.reshape_dim(1, None), "a tuple of integers"),
        (lambda x: x.rearrange(None, ("a",)), "pattern None"),
        (lambda x: nl.device_print("x", 3), "an NKI tensor"),
        (lambda x: nl.program_id(5), "axis 5"),
        (lambda x: nisa.register_alloc(2**40), "32 bits"),
        (lambda x: nisa.register_move(3, 4), "a register"),
        (lambda x: nisa.register_move(nisa.register_alloc()), "missing a required argument"),
        (lambda x: x[float("nan") : 3], "start of a slice is nan"),
    ],
)
def test_a_tensor_used_as_it_cannot_be_is_refused_at_the_users_line(use, message):
    with pytest.raises(NkiValidationError, match=message) as caught:
        simulate(lambda x: use(x))(X)
    assert caught.value.where and caught.value.where.file.endswith("test_releases.py")
