"""Knows how a training job is divided over chips: the degrees and choices, and what they allow.

Every field may be one value or an array: a `Layout` of arrays is a table of strategies, one per
element, and every formula of `cluster` works on it element by element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rainshadow.errors import InputError, UnknownNameError

Count: TypeAlias = int | NDArray[np.int64]
Flag: TypeAlias = bool | NDArray[np.bool_]

#: Choices are stored as their index here, so that arrays of them are cheap.
RECOMPUTE = ("none", "selective", "full")
SCHEDULES = ("1f1b", "zero_bubble", "dual_pipe", "gpipe")
CONTEXT_METHODS = ("ring", "all_gather")
PRECISIONS = ("float32", "bfloat16", "float8", "mxfp8", "nvfp4")
OFFLOADS = ("none", "optimizer", "optimizer_and_activations", "activations")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "recompute": RECOMPUTE,
    "schedule": SCHEDULES,
    "context_method": CONTEXT_METHODS,
    "precision": PRECISIONS,
    "offload": OFFLOADS,
}


#: What users and other programs call the same.
_PRECISION_ALIASES: Mapping[str, str] = {
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "bfloat16",
    "float16": "bfloat16",
    "fp8": "float8",
    "float8_e4m3": "float8",
    "fp4": "nvfp4",
}


def precision_code(word: str) -> int:
    """The index of a precision in PRECISIONS, by its name or by another program's.

    Errors: `UnknownNameError`.
    """
    name = _PRECISION_ALIASES.get(word.lower(), word.lower())
    if name not in PRECISIONS:
        raise UnknownNameError("precision", word, [*PRECISIONS, *_PRECISION_ALIASES])
    return PRECISIONS.index(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is trained in one step. global_batch: sequences. lora_rank: 0 trains all weights.

    expert_imbalance: tokens of the busiest expert-parallel rank over the mean; 1 is forced
    balance, which published mixture-of-experts tables use.
    """

    sequence: int
    global_batch: int
    lora_rank: int = 0
    expert_imbalance: float = 1.0

    @property
    def tokens(self) -> int:
        return self.sequence * self.global_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a step is divided. Megatron's words; ranks are numbered tensor first, pipeline last.

    chips = tensor x context x pipeline x data. expert_parallel divides tensor x context x data
    (the expert weights have no tensor parallelism of their own). zero: 0 none, 1 optimizer
    state, 2 also gradients, 3 also weights (FSDP); shard_size: ranks a ZeRO shard spans, 0 for
    all of data x context (less is HSDP).  virtual_stages: model chunks per pipeline rank.
    overlap_tensor, overlap_data, overlap_pipeline: collectives run beside compute where they can.
    """

    tensor_parallel: Count = 1
    sequence_parallel: Flag = True
    pipeline_parallel: Count = 1
    virtual_stages: Count = 1
    schedule: Count = 0
    data_parallel: Count = 1
    zero: Count = 1
    shard_size: Count = 0
    context_parallel: Count = 1
    context_method: Count = 0
    expert_parallel: Count = 1
    micro_batch: Count = 1
    recompute: Count = 0
    offload: Count = 0
    precision: Count = 1
    overlap_tensor: Flag = True
    overlap_data: Flag = True
    overlap_pipeline: Flag = True

    @property
    def num_chips(self) -> Count:
        return (
            self.tensor_parallel
            * self.context_parallel
            * self.pipeline_parallel
            * self.data_parallel
        )

    @property
    def size(self) -> int:
        """Number of strategies."""
        return int(np.broadcast(*self.columns().values()).size)

    def columns(self) -> dict[str, Any]:
        """Field -> value or array."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def row(self, index: int) -> Layout:
        """One strategy of a table, as plain Python values."""
        size = self.size
        values = {
            name: np.broadcast_to(column, size)[index].item()
            for name, column in self.columns().items()
        }
        return Layout(**values)

    def take(self, rows: NDArray[Any]) -> Layout:
        """Some strategies of a table, by index or mask."""
        size = self.size
        return Layout(
            **{name: np.broadcast_to(col, size)[rows] for name, col in self.columns().items()}
        )

    def describe(self) -> dict[str, Any]:
        """One strategy in words: codes become their names."""
        return {
            name: CHOICES[name][int(value)] if name in CHOICES else value
            for name, value in self.columns().items()
        }


def layout_of(**choices: Any) -> Layout:
    """A layout from words: `layout_of(tensor_parallel=8, recompute="full", precision="mxfp8")`.

    Errors: `UnknownNameError` for an unknown choice; `InputError` for a degree below 1.
    """
    fields = {field.name for field in dataclasses.fields(Layout)}
    values = dict(choices)
    for name, value in choices.items():
        if name not in fields:
            raise UnknownNameError("layout field", name, fields)
        if name in CHOICES and isinstance(value, str):
            if value not in CHOICES[name]:
                raise UnknownNameError(name, value, CHOICES[name])
            values[name] = CHOICES[name].index(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            least = 0 if name in ("zero", "shard_size") or name in CHOICES else 1
            if value < least:
                raise InputError(f"{name} is {value}", allowed=f"{least} or more")
    return Layout(**values)
