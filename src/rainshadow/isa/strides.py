"""Knows the arithmetic of strides: merging axes, reshaping without a copy, row-major order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def merge_axes(axes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(extent, stride) pairs with neighbours merged where memory allows; size-1 axes dropped."""
    merged: list[tuple[int, int]] = []
    for extent, stride in axes:
        if extent == 1:
            continue
        if merged and merged[-1][1] == stride * extent:
            merged[-1] = (merged[-1][0] * extent, stride)
        else:
            merged.append((extent, stride))
    return merged


def reshape_strides(
    shape: Sequence[int], strides: Sequence[int], new_shape: Sequence[int]
) -> tuple[int, ...] | None:
    """Strides of `new_shape` over the same elements in the same order, or None if none exist."""
    size, new_size = 1, 1
    for extent in shape:
        size *= extent
    for extent in new_shape:
        new_size *= extent
    if size != new_size:
        return None
    groups = merge_axes(list(zip(shape, strides, strict=True)))
    result: list[int] = []
    group = len(groups) - 1
    left, stride = groups[group] if groups else (1, 1)
    for extent in reversed(new_shape):
        if extent == 1:
            result.append(stride)
            continue
        while left == 1 and group > 0:
            group -= 1
            left, stride = groups[group]
        if left % extent:
            return None
        result.append(stride)
        left //= extent
        stride *= extent
    return tuple(reversed(result))


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides: list[int] = []
    stride = 1
    for extent in reversed(shape):
        strides.append(stride)
        stride *= extent
    return tuple(reversed(strides))


def affine_values(
    partitions: int,
    pattern: Sequence[Sequence[int]],
    offset: int,
    channel_multiplier: int,
) -> np.ndarray[Any, Any]:
    """int64[partitions, count...]: offset + p * channel_multiplier + the pattern's steps."""
    grid = offset + channel_multiplier * np.arange(partitions, dtype=np.int64)
    for step, count in pattern:
        grid = grid[..., None] + step * np.arange(count, dtype=np.int64)
    return grid


def comb_of(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """(period, run), in elements, of a view whose elements lie in runs a fixed period apart.

    Every element lies within `run` elements from first element + i * period. (0, 0) where the
    elements leave no regular gap.
    """
    run = 1
    axes = sorted(
        (stride, extent) for stride, extent in zip(strides, shape, strict=True) if extent > 1
    )
    for number, (stride, extent) in enumerate(axes):
        if stride < 0:
            return 0, 0
        if stride > run:
            regular = all(later % stride == 0 for later, _ in axes[number:])
            return (stride, run) if regular else (0, 0)
        run += stride * (extent - 1)
    return 0, 0
