"""Knows exactly which bytes an access pattern touches, in one form for equal sets of bytes.

Boxes and combs (`AccessPattern.box`, `comb`) are the quick bounds that timing uses; this is the
exact set that checks use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.strides import comb_of

#: (stride, count) pairs that a footprint holds; patterns with more are given by their bounds.
MAX_AXES = 6
#: Columns of a footprint: partition, partitions, first byte, run bytes, flags, then the pairs.
WIDTH = 5 + 2 * MAX_AXES
#: Flags: the bytes are those that an index may pick; only the bounds are known.
REACH, BOUNDS = 1, 2

Footprint = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """What views of one shape and strides have in common.

    item: bytes of an element.  low, high: first byte, and first byte of the last element, relative
    to the view's first element, of what may be touched.  tail: the footprint from its run on.
    comb: as `AccessPattern.comb`.
    """

    item: int
    partitions: int
    low: int
    high: int
    tail: Footprint
    comb: tuple[int, int]


def footprint(view: AccessPattern) -> Footprint:
    """The bytes of `view`, relative to its buffer.

    (first partition, partitions, first byte, bytes in a run, flags, stride, count, ...): runs
    that start at first byte + the sum of i * stride, the same in each partition; strides in bytes,
    falling. HBM counts as one partition.
    """
    return measure(view)[0]


def measure(view: AccessPattern) -> tuple[Footprint, tuple[int, int, int, int], tuple[int, int]]:
    """Footprint, box and comb of a view (`AccessPattern.box`, `comb`), quickly."""
    buffer, form = view.buffer_, form_of(view)
    first = view.offset * form.item
    partition = 0
    if buffer.on_chip:
        partition, first = divmod(first, buffer.size_bytes)
    start = buffer.start_partition + partition
    at = buffer.address + first
    box = (start, start + form.partitions, at + form.low, at + form.high + form.item)
    return (partition, form.partitions, first + form.low, *form.tail), box, form.comb


def form_of(view: AccessPattern) -> Form:
    """The form of a view; with its offset and buffer, it gives what `measure` does."""
    buffer, picked = view.buffer_, view.indirection
    return _form(
        view.shape,
        view.strides,
        view.itemsize,
        buffer.size_bytes if buffer.on_chip else 0,
        None if picked is None else (picked.axis, picked.limit, picked.stride),
    )


@lru_cache(maxsize=65536)
def _form(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    item: int,
    partition_bytes: int,
    picked: tuple[int, int, int] | None,
) -> Form:
    extents, steps = list(shape), list(strides)
    flags = 0
    if picked is not None:
        extents[picked[0]], steps[picked[0]] = picked[1:]
        flags = REACH
    partitions = 1
    if partition_bytes:
        partitions = extents[0]
        apart = steps[0] * item
        flags |= BOUNDS if apart not in (0, partition_bytes) and partitions > 1 else 0
        extents, steps = extents[1:], steps[1:]
    axes = [(step * item, count) for step, count in zip(steps, extents, strict=True)]
    low = sum(step * (count - 1) for step, count in axes if step < 0)
    high = sum(step * (count - 1) for step, count in axes if step > 0)
    run, outer = _merged(item, ((abs(step), count) for step, count in axes))
    if len(outer) > MAX_AXES:
        run, outer, flags = high - low + item, [], flags | BOUNDS
    pairs = [number for pair in reversed(outer) for number in pair]
    period, length = comb_of(extents, steps)
    return Form(
        item,
        partitions,
        low,
        high,
        (run, flags, *pairs, *[0] * (2 * MAX_AXES - len(pairs))),
        (period * item, length * item),
    )


def _merged(item: int, axes: Iterable[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of the innermost run, and the axes outside it, smallest stride first."""
    run, outer = item, list[tuple[int, int]]()
    for stride, count in sorted(axes):
        if count == 1 or stride == 0:
            continue
        if not outer and stride <= run:
            run += stride * (count - 1)
        elif outer and stride == outer[-1][0] * outer[-1][1]:
            outer[-1] = (outer[-1][0], outer[-1][1] * count)
        else:
            outer.append((stride, count))
    return run, outer
