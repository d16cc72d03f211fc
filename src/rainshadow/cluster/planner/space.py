"""Knows the complete space of layouts of a training job on so many chips.

A *family* is one choice of degrees (tensor, pipeline, context, expert, data parallelism). Its
members are every combination of the other choices that means something there: micro-batch,
virtual stages, schedule, ZeRO stage and shard, sequence parallelism, recomputation, offload,
overlaps. Choices without an effect (a schedule without a pipeline, an overlap without a
collective) have one value, so that no member is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rainshadow.cluster.feasibility import rules
from rainshadow.cluster.layout import (
    CONTEXT_METHODS,
    OFFLOADS,
    RECOMPUTE,
    SCHEDULES,
    Layout,
    Workload,
)
from rainshadow.cluster.model import TransformerModel
from rainshadow.machine import System

Ints = NDArray[np.int64]


@cache
def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return tuple(sorted({*small, *(number // n for n in small)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a search may choose from; every field can be narrowed. None: all that is possible.

    hsdp: also shards that span fewer ranks than there are.
    """

    tensor: Sequence[int] | None = None
    pipeline: Sequence[int] | None = None
    context: Sequence[int] | None = None
    expert: Sequence[int] | None = None
    micro_batch: Sequence[int] | None = None
    virtual_stages: Sequence[int] | None = None
    schedules: Sequence[int] = tuple(range(len(SCHEDULES)))
    zero: Sequence[int] = (0, 1, 2, 3)
    hsdp: bool = True
    sequence_parallel: Sequence[bool] = (False, True)
    recompute: Sequence[int] = tuple(range(len(RECOMPUTE)))
    offload: Sequence[int] = tuple(range(len(OFFLOADS)))
    context_methods: Sequence[int] = tuple(range(len(CONTEXT_METHODS)))
    overlaps: Sequence[bool] = (False, True)
    precision: int = 1


#: What Megatron-LM, torchtitan and NxD can be told to do today; nothing leaves the chips.
MAINSTREAM = Choices(schedules=(0,), offload=(0,))


@dataclass(frozen=True, slots=True)
class Family:
    """One choice of degrees."""

    tensor: int
    pipeline: int
    context: int
    expert: int
    data: int

    @property
    def replicas(self) -> int:
        """Ranks that ZeRO can share over."""
        return self.data * self.context

    @property
    def kind(self) -> tuple[int, int, int]:
        """What makes two plans different: how weights are split, not how sequences are."""
        return self.tensor, self.pipeline, self.expert


@dataclass(frozen=True)
class Space:
    """All layouts of a job on a system's chips."""

    model: TransformerModel
    system: System
    workload: Workload
    choices: Choices = Choices()

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Every choice of degrees that the rules allow."""
        chips, model, allowed = self.system.num_chips, self.model, self.choices
        layers = model.layers + model.prediction_layers
        found = []
        for tensor in _among(divisors(chips), allowed.tensor):
            if model.heads % tensor:
                continue
            for pipe in _among(divisors(chips // tensor), allowed.pipeline):
                if pipe > layers:
                    break
                for con in _among(divisors(chips // tensor // pipe), allowed.context):
                    if con > 1 and self.workload.sequence % (2 * con):
                        continue
                    data = chips // tensor // pipe // con
                    if self.workload.global_batch % data:
                        continue
                    for expert in self._expert_degrees(tensor * con * data):
                        found.append(Family(tensor, pipe, con, expert, data))
        return tuple(found)

    def _expert_degrees(self, ranks: int) -> list[int]:
        moe = self.model.moe
        if moe is None:
            return [1]
        degrees = [degree for degree in divisors(moe.experts) if ranks % degree == 0]
        return _among(degrees, self.choices.expert)

    def micro_batches(self, family: Family) -> list[int]:
        """Sizes that divide a replica's part of the batch."""
        return _among(divisors(self.workload.global_batch // family.data), self.choices.micro_batch)

    def virtual_stages(self, family: Family) -> list[int]:
        """Chunks a stage: those that cut its layers evenly."""
        if family.pipeline == 1:
            return [1]
        layers = self.model.layers + self.model.prediction_layers
        return _among(divisors(-(-layers // family.pipeline)), self.choices.virtual_stages)

    def zero_choices(self, family: Family) -> list[tuple[int, int]]:
        """(stage, ranks of a shard) pairs; 0 ranks for all."""
        if family.replicas == 1:
            return [(0, 0)]
        stages = [stage for stage in self.choices.zero if stage < 3 or family.pipeline == 1]
        shards = [0]
        if self.choices.hsdp:
            shards += divisors(family.replicas)[1:-1]
        return [(s, shard) for s in stages for shard in (shards if s else [0])]

    def axes(self, family: Family) -> dict[str, Sequence[Any]]:
        """Every choice that a family's members have, each with its values."""
        allowed = self.choices
        either = tuple(allowed.overlaps)
        split = family.tensor > 1
        piped = family.pipeline > 1
        return {
            "micro_batch": self.micro_batches(family),
            "virtual_stages": self.virtual_stages(family),
            "schedule": tuple(allowed.schedules) if piped else (0,),
            "zero": self.zero_choices(family),
            "sequence_parallel": tuple(allowed.sequence_parallel)
            if family.tensor > 1
            else (False,),
            "recompute": tuple(allowed.recompute),
            "offload": tuple(allowed.offload),
            "context_method": tuple(allowed.context_methods) if family.context > 1 else (0,),
            "overlap_tensor": either if split or family.expert > 1 else (False,),
            "overlap_data": either if family.replicas > 1 else (False,),
            "overlap_pipeline": either if piped else (False,),
        }

    def table(self, family: Family) -> Layout:
        """All members as one layout whose columns broadcast against each other.

        Each choice varies along an axis of its own, so that what depends on few choices is
        computed few times.
        """
        axes = self.axes(family)
        columns: dict[str, Any] = {}
        for number, (name, values) in enumerate(axes.items()):
            shape = [1] * len(axes)
            shape[number] = len(values)
            if name == "zero":
                columns["zero"] = np.array([stage for stage, _ in values]).reshape(shape)
                columns["shard_size"] = np.array([shard for _, shard in values]).reshape(shape)
            else:
                columns[name] = np.array(values).reshape(shape)
        return self._layout(family, columns)

    def _layout(self, family: Family, columns: dict[str, Any]) -> Layout:
        return Layout(
            tensor_parallel=family.tensor,
            pipeline_parallel=family.pipeline,
            context_parallel=family.context,
            expert_parallel=family.expert,
            data_parallel=family.data,
            precision=self.choices.precision,
            **columns,
        )

    def member(self, family: Family, index: int) -> Layout:
        """One member by its flat index in `table`."""
        axes = self.axes(family)
        where = np.unravel_index(index, [len(values) for values in axes.values()])
        values = {name: axes[name][int(i)] for name, i in zip(axes, where, strict=True)}
        stage, shard = values.pop("zero")
        return self._layout(family, {**values, "zero": stage, "shard_size": shard})

    def allowed(self, table: Layout) -> NDArray[np.bool_]:
        """Where every rule holds, as small an array as the rules need."""
        mask: Any = np.True_
        for _, holds in rules(self.model, self.system, table, self.workload):
            mask = mask & np.asarray(holds)
        return np.asarray(mask)

    def size(self, family: Family) -> int:
        """Members of a family, without looking at memory."""
        lengths = [len(values) for values in self.axes(family).values()]
        mask = self.allowed(self.table(family))
        mask = mask.reshape((1,) * (len(lengths) - mask.ndim) + mask.shape)
        # Axes that no rule looks at repeat every member that the others have.
        alike = (full for full, here in zip(lengths, mask.shape, strict=True) if here != full)
        return int(mask.sum()) * math.prod(alike)


def _among(possible: Sequence[int], wanted: Sequence[int] | None) -> list[int]:
    return [value for value in possible if wanted is None or value in wanted]
