"""Knows the MX formats: four small floats in a word, and one power-of-two scale for 32 of them.

Source: OCP Microscaling Formats (MX) v1.0 for the element formats and the e8m0 scale; AWS Neuron
docs 2.32, nki.isa.quantize_mx and the Trainium 3 guide, for groups of 8 partitions x 4 elements and
the scales' place: 4 rows at the start of every 32 partitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

#: Elements in a word; partitions that share a scale; partitions of a quadrant.
PACKED, GROUP, QUADRANT = 4, 8, 32
SCALES_PER_QUADRANT = QUADRANT // GROUP
#: Exponent of 2**0 in an e8m0 scale.
SCALE_BIAS = 127
#: dtypes that scale tensors may have.
SCALE_DTYPES = ("float8_e8m0fnu", "uint8")


@dataclass(frozen=True, slots=True)
class MxFormat:
    """element: the ml_dtypes type of one element.  emax: largest unbiased exponent.

    largest: largest finite value.
    """

    element: Any
    emax: int
    largest: float


FORMATS = {
    "float8_e4m3fn_x4": MxFormat(ml_dtypes.float8_e4m3fn, 8, 448.0),
    "float8_e5m2_x4": MxFormat(ml_dtypes.float8_e5m2, 15, 57344.0),
    "float4_e2m1fn_x4": MxFormat(ml_dtypes.float4_e2m1fn, 2, 6.0),
}


def pack(values: Array, dtype: str) -> Array:
    """[..., 4 n] floats as [..., n] words, rounded to nearest even and saturated; first lowest."""
    kind = FORMATS[dtype]
    clipped = np.clip(values.astype(np.float32), -kind.largest, kind.largest)
    elements = np.ascontiguousarray(clipped.astype(kind.element))
    if kind.element is ml_dtypes.float4_e2m1fn:
        nibbles = elements.view(np.uint8).reshape(*values.shape[:-1], -1, PACKED).astype(np.uint16)
        shifts = np.arange(PACKED, dtype=np.uint16) * np.uint16(4)
        return (nibbles << shifts).sum(axis=-1, dtype=np.uint16)  # type: ignore[no-any-return]
    return elements.view(np.uint32)


def unpack(words: Array, dtype: str) -> Array:
    """[..., n] words as [..., n, 4] float32."""
    kind = FORMATS[dtype]
    if kind.element is ml_dtypes.float4_e2m1fn:
        shifts = np.arange(PACKED, dtype=np.uint16) * np.uint16(4)
        nibbles = ((words[..., None] >> shifts) & np.uint16(0xF)).astype(np.uint8)
        return nibbles.view(kind.element).astype(np.float32)
    elements = np.ascontiguousarray(words).view(kind.element)
    return elements.astype(np.float32).reshape(*words.shape, PACKED)


def num_scale_rows(partitions: int) -> int:
    """Partitions from the first to the last scale row of a tile of `partitions`."""
    quadrants = partitions // QUADRANT
    return (quadrants - 1) * QUADRANT + SCALES_PER_QUADRANT


def scale_rows(partitions: int) -> Array:
    """Row of the scale tile that holds each group's scale, for the groups of `partitions`."""
    group = np.arange(partitions // GROUP)
    return group // SCALES_PER_QUADRANT * QUADRANT + group % SCALES_PER_QUADRANT


def factors(scales: Array) -> Array:
    """e8m0 bytes as float32 factors; 255 is NaN."""
    exponents = scales.view(np.uint8).astype(np.int32) - SCALE_BIAS
    result = np.ldexp(np.float32(1), exponents)
    return np.where(exponents == SCALE_BIAS + 1, np.float32(np.nan), result)


def block_exponents(values: Array, dtype: str, headroom: int) -> Array:
    """e8m0 bytes [P / 8, n] of [P, 4 n] values.

    2 to the floor(log2(largest)) - (emax - headroom); 2**-127 for groups of zeros.
    """
    partitions = values.shape[0]
    groups = np.abs(values).reshape(partitions // GROUP, GROUP, -1, PACKED)
    largest = groups.max(axis=(1, 3))
    _, exponent = np.frexp(largest)
    biased = exponent - 1 - (FORMATS[dtype].emax - headroom) + SCALE_BIAS
    return np.where(largest == 0, 0, np.clip(biased, 0, 254)).astype(np.uint8)
