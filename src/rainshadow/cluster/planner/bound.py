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
#: The bound and a member's time add the same terms in another order: a few dozen roundings.
_ROUNDING = 1e-12
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
    # Of all schedules 1F1B keeps the fewest micro-batches' activations.
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
    times = np.asarray(step_seconds(work, rates, fast, space.workload).total) * (1 - _ROUNDING)
    shape = (len(families), len(columns), *(1 for _ in _AXES))
    # ZeRO-3 and pipelines do not go together; without it the leanest is ZeRO-2.
    usable = (np.asarray(fast.zero) < 3) | (np.asarray(fast.pipeline_parallel) == 1)
    good = fits(memory, space.system) & allowed.reshape(shape) & usable
    return np.where(good, times, np.inf).reshape(len(families), -1).min(axis=1)


def _leanest_zero(stages: Sequence[int]) -> list[int]:
    """The stage that shares most, and the one that shares most without gathering weights."""
    return sorted({max(stages), *[stage for stage in stages if stage <= 2][-1:]})


def _ideal(space: Space, families: Sequence[Family], sizes: Sequence[int]) -> Layout:
    """The idealised members: families x micro-batches x the choices that change compute."""
    allowed = space.choices
    values: dict[str, Sequence[Any]] = {
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

    alone = along(0, [family.replicas == 1 for family in families])
    piped = along(0, [family.pipeline > 1 for family in families])
    # Nothing hides more of the experts' traffic than the schedule that hides all of it.
    schedules = tuple(allowed.schedules)
    hiding = [code for code in schedules if pipeline.hides_experts(code)]
    return Layout(
        tensor_parallel=along(0, [family.tensor for family in families]),
        pipeline_parallel=along(0, [family.pipeline for family in families]),
        context_parallel=along(0, [family.context for family in families]),
        expert_parallel=along(0, [family.expert for family in families]),
        data_parallel=along(0, [family.data for family in families]),
        virtual_stages=along(
            0, [max(space.virtual_stages(family), default=1) for family in families]
        ),
        schedule=np.where(piped, (hiding or schedules)[0], 0),
        micro_batch=along(1, sizes),
        # A rank without replicas has nothing to share and, as in `Space.zero_choices`, does not.
        zero=np.where(alone, 0, along(2, _leanest_zero(sorted(allowed.zero)))),
        precision=allowed.precision,
        overlap_tensor=True,
        overlap_data=True,
        overlap_pipeline=True,
        **{
            name: along(3 + number, entries)
            for number, (name, entries) in enumerate(values.items())
        },
    )
