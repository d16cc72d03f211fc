"""Knows how fast a family of layouts can be at best: a time that none of its members beats.

The step model itself is evaluated on an idealised member: no gradient or weight traffic, no
hand-over between stages, collectives that may hide and cost compute nothing, the smallest bubble
of any schedule with most virtual stages, optimizer state shared by all. Where not even the
leanest choice (fewest micro-batches in flight, most ZeRO) fits in memory, the time is infinite.
Each of these can only shorten a step, because a step's time never falls when one of them grows;
tests/laws/test_planner.py holds that against every member of random spaces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.feasibility import fits
from rainshadow.cluster.layout import SCHEDULES, Layout
from rainshadow.cluster.memory import memory_use
from rainshadow.cluster.parallelism import pipeline
from rainshadow.cluster.planner.space import Family, Space
from rainshadow.cluster.predict import TrainingMachine
from rainshadow.cluster.training import step_seconds, step_work

#: Axes of the table of idealised members after families and micro-batches.
_AXES = ("zero", "sequence_parallel", "recompute", "offload", "context_method")
#: Families per call, so that memory stays small.
_CHUNK = 256


def lower_bounds(
    space: Space, machine: TrainingMachine, families: Sequence[Family]
) -> NDArray[np.float64]:
    """Seconds per family; infinite where nothing fits."""
    parts = [
        _bounds(space, machine, families[start : start + _CHUNK])
        for start in range(0, len(families), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _bounds(
    space: Space, machine: TrainingMachine, families: Sequence[Family]
) -> NDArray[np.float64]:
    sizes = [space.micro_batches(family) for family in families]
    columns = sorted({size for row in sizes for size in row})
    allowed = np.array([[size in row for size in columns] for row in sizes])
    fast = _ideal(space, families, columns)
    lean = dataclasses.replace(fast, virtual_stages=1, schedule=0)
    memory = memory_use(space.model, lean, space.workload, machine.software)
    work = step_work(space.model, machine.links, fast, space.workload, machine.software)
    bubbles = [
        pipeline.bubble_micro_batches(fast.pipeline_parallel, fast.virtual_stages, schedule)
        for schedule in space.choices.schedules or range(len(SCHEDULES))
    ]
    work = dataclasses.replace(
        work,
        memory=memory,
        scatter_s=0.0,
        gather_s=0.0,
        transfer_s=0.0,
        bubble=np.minimum.reduce(bubbles),
    )
    rates = dataclasses.replace(machine.rates, tax=0.0)
    times = np.asarray(step_seconds(work, rates, fast, space.workload).total)
    shape = (len(families), len(columns), *(1 for _ in _AXES))
    # A family's own stages of ZeRO: none with one replica, no ZeRO-3 with a pipeline.
    stages = [{stage for stage, _ in space.zero_choices(family)} for family in families]
    kept = [[stage in own for stage in np.ravel(fast.zero)] for own in stages]
    usable = np.reshape(kept, (len(families), 1, -1, *(1 for _ in _AXES[1:])))
    good = fits(memory, space.system) & allowed.reshape(shape) & usable
    return np.where(good, times, np.inf).reshape(len(families), -1).min(axis=1)


def _ideal(space: Space, families: Sequence[Family], sizes: Sequence[int]) -> Layout:
    """The idealised members: families x micro-batches x the choices that change compute."""
    allowed = space.choices
    # More ZeRO is leaner, so the last that a pipeline can have stands for those before it.
    with_pipeline = max((stage for stage in allowed.zero if stage < 3), default=0)
    zero = sorted({0, with_pipeline, max(allowed.zero)})
    values: dict[str, Sequence[Any]] = {
        "zero": zero,
        "sequence_parallel": tuple(allowed.sequence_parallel),
        "recompute": tuple(allowed.recompute),
        "offload": tuple(allowed.offload),
        "context_method": tuple(allowed.context_methods),
    }
    if all(family.context == 1 for family in families):
        values["context_method"] = (0,)
    dimensions = 2 + len(_AXES)

    def along(axis: int, entries: Sequence[Any]) -> NDArray[Any]:
        shape = [1] * dimensions
        shape[axis] = len(entries)
        return np.array(entries).reshape(shape)

    return Layout(
        tensor_parallel=along(0, [family.tensor for family in families]),
        pipeline_parallel=along(0, [family.pipeline for family in families]),
        context_parallel=along(0, [family.context for family in families]),
        expert_parallel=along(0, [family.expert for family in families]),
        data_parallel=along(0, [family.data for family in families]),
        virtual_stages=along(0, [max(space.virtual_stages(family)) for family in families]),
        micro_batch=along(1, sizes),
        precision=allowed.precision,
        overlap_tensor=True,
        overlap_data=True,
        overlap_pipeline=True,
        **{name: along(2 + number, values[name]) for number, name in enumerate(_AXES)},
    )
