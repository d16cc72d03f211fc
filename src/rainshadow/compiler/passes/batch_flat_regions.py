"""Joins elementwise regions that do the same to different tensors, as an optimizer step does.

Only flat regions, which read and write whole contiguous tensors and single values in common, and
only small ones: beyond a full tile an instruction gains nothing from being longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rainshadow.compiler.graph import Tensor, View
from rainshadow.compiler.operators.flat_batch import (
    batch_columns,
    flat_columns,
    is_one_value,
)
from rainshadow.compiler.operators.rowwise import is_flat
from rainshadow.compiler.operators.tiling import CoreLimits
from rainshadow.compiler.region import Region


def batch_flat_regions(regions: Sequence[Region], limits: CoreLimits) -> list[Region]:
    """The regions with batches in place of their last members."""
    batches: dict[Any, list[int]] = {}
    finished: list[list[int]] = []
    for position, region in enumerate(regions):
        key = _key(region, limits)
        if key is None:
            continue
        batch = batches.setdefault(key, [])
        columns = sum(flat_columns(regions[i], limits) for i in batch)
        room = columns + flat_columns(region, limits) <= batch_columns(region, limits)
        if batch and not (room and _may_wait(regions, batch[0], position)):
            finished.append(batch)
            batch = batches[key] = []
        batch.append(position)
    return _joined(regions, [*finished, *batches.values()])


def _joined(regions: Sequence[Region], batches: Sequence[list[int]]) -> list[Region]:
    result: list[Region | None] = list(regions)
    for batch in batches:
        if len(batch) < 2:
            continue
        members = tuple(regions[i] for i in batch)
        for position in batch:
            result[position] = None
        result[batch[-1]] = Region(
            name=members[0].name,
            kind="flat_batch",
            nodes=[node for member in members for node in member.nodes],
            outputs=[tensor for member in members for tensor in member.outputs],
            prelude=members[0].prelude,
            members=members,
        )
    return [region for region in result if region is not None]


def _may_wait(regions: Sequence[Region], first: int, last: int) -> bool:
    """No region from `first` to `last` reads what another of them makes."""
    made: set[Tensor] = set()
    for region in regions[first : last + 1]:
        if any(view.root in made for view in region.external_views):
            return False
        made.update(region.outputs)
    return True


def _key(region: Region, limits: CoreLimits) -> Any:
    """What members of a batch have in common; None for a region that can't be one."""
    if region.kind != "rowwise" or any(node.op != "map" for node in region.nodes):
        return None
    size = region.rows * region.columns
    if size % limits.partitions or not is_flat(region):
        return None
    if flat_columns(region, limits) * 2 > batch_columns(region, limits):
        return None
    if any(node.output.size != size for node in region.nodes):
        return None
    for_all = {view for node in region.prelude for view in node.views}
    numbers: dict[View | Tensor, int] = {}
    shared: list[Any] = []
    for view in region.external_views:
        numbers[view] = len(numbers)
        if view in for_all:
            shared.append(view)
        elif is_one_value(view):
            shared.append(view.root if view.root.size <= batch_columns(region, limits) else view)
        elif view.is_contiguous and view.size == size:
            shared.append(view.dtype)
        else:
            return None
    steps = []
    for node in [*region.prelude, *region.nodes]:
        operands = tuple(_operand(operand, numbers) for operand in node.inputs)
        kept = node.output in region.outputs
        steps.append((node.attrs["fn"], node.output.dtype, kept, operands))
        numbers[node.output] = len(numbers)
    return tuple(steps), tuple(shared)


def _operand(operand: Any, numbers: dict[View | Tensor, int]) -> Any:
    if not isinstance(operand, View):
        return "number", operand
    return numbers.get(operand.root, numbers.get(operand))
