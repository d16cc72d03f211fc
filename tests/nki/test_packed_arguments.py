"""Arrays of four MX elements in a word, given to kernels and made from dtypes of the language."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow import dtypes
from rainshadow.errors import NkiValidationError
from rainshadow.isa import mx
from rainshadow.machine import load_chip
from rainshadow.nki import isa as nisa
from rainshadow.nki import jit
from rainshadow.nki import language as nl
from rainshadow.nki.kernel import record
from rainshadow.nki.program import bind_arguments

CHIP = load_chip("trainium3")


@jit
def product(stationary, moving, stationary_scale, moving_scale):
    given = (stationary, moving, stationary_scale, moving_scale)
    tiles = [nl.ndarray(each.shape, each.dtype, buffer=nl.sbuf) for each in given]
    for tile, each in zip(tiles, given, strict=True):
        nisa.dma_copy(dst=tile, src=each)
    total = nl.ndarray((stationary.shape[1], moving.shape[1]), nl.float32, buffer=nl.psum)
    left, right, left_scale, right_scale = tiles
    nisa.nc_matmul_mx(
        dst=total,
        stationary=left,
        moving=right,
        stationary_scale=left_scale,
        moving_scale=right_scale,
    )
    here = nl.ndarray(total.shape, nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=here, src=total)
    result = nl.ndarray(total.shape, nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=result, src=here)
    return result


@pytest.mark.parametrize("left", mx.FORMATS)
@pytest.mark.parametrize("right", mx.FORMATS)
def test_each_format_multiplies_as_its_elements_do(left, right, rng):
    words = [
        mx.pack(rng.standard_normal((128, 4 * columns)), name).view(dtypes.given_dtype(name))
        for name, columns in ((left, 64), (right, 96))
    ]
    scales = [np.full(each.shape, mx.SCALE_BIAS, np.uint8) for each in words]
    outputs = record(product, (*words, *scales), chip=CHIP).outputs
    a, b = (mx.unpack(each[name], name) for each, name in zip(words, (left, right), strict=True))
    expected = np.einsum("pme,pne->mn", a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-4 * np.abs(expected).max())


def test_plain_words_are_no_mx_elements(rng):
    words = mx.pack(rng.standard_normal((128, 256)), "float8_e4m3fn_x4")
    scales = np.full(words.shape, mx.SCALE_BIAS, np.uint8)
    with pytest.raises(NkiValidationError, match="uint32"):
        record(product, (words, words, scales, scales), chip=CHIP)


@pytest.mark.parametrize("name", mx.FORMATS)
def test_numpy_takes_the_dtypes_of_the_language(name):
    array = np.zeros((4, 6), dtype=getattr(nl, name))
    assert dtypes.from_numpy(array.dtype) == name
    assert array.dtype == dtypes.given_dtype(name)
    assert array.itemsize == dtypes.itemsize(name)


def test_random_arguments_hold_elements_of_their_format():
    texts = ["stationary=128x64:float8_e5m2_x4", "moving=128x96:float4_e2m1fn_x4"]
    texts += [f"{name}_scale=128x{n}:uint8" for name, n in (("stationary", 64), ("moving", 96))]
    given = bind_arguments(product, texts, data=True, seed=0)
    for name, form in (("stationary", "float8_e5m2_x4"), ("moving", "float4_e2m1fn_x4")):
        assert given[name].dtype == dtypes.given_dtype(form)
        elements = mx.unpack(given[name][form], form)
        assert 0.8 < elements.std() < 1.2
