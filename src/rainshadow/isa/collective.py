"""Knows what the collective instructions have in common: operands, rules, reduction, cost.

Source of rules: AWS Neuron docs 2.32, nki.collectives API reference; of costs: intra-node
collective communication (algorithms, their steps and ranges of message sizes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import mx, rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, hbm_s
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import AluOperator
from rainshadow.machine import Chip

#: Operators that a collective may reduce by.
REDUCERS = ("add", "minimum", "maximum")
_HBM = (Space.private_hbm, Space.shared_hbm)

Array = np.ndarray[Any, Any]
#: Gives what each member of the group brings, in the group's order, when all have come.
Gather = Callable[[Callable[[], Any]], list[Any]]


@dataclass(slots=True)
class Collective(Instruction):
    """srcs, dsts: tensors of equal number; position: this rank's place in its group.

    group_size: ranks that take part.  lnc: physical cores of a rank.  trigger: what starts it:
    engines of their own, beside those that a kernel programs.
    """

    READS: ClassVar[tuple[str, ...]] = ("srcs",)
    WRITES: ClassVar[tuple[str, ...]] = ("dsts",)
    PARAMS: ClassVar[tuple[str, ...]] = ("group_size", "lnc", "trigger")
    MODULE: ClassVar[str] = "collectives"
    MEETS: ClassVar[bool] = True

    srcs: tuple[AccessPattern, ...]
    dsts: tuple[AccessPattern, ...]
    gather: Gather
    position: int
    group_size: int
    lnc: int = 1
    priority: int | None = None
    trigger: str = "sync"
    engine: Engine = Engine.dma

    def meet(self) -> None:
        self.gather(lambda: None)

    def gathered(self) -> list[tuple[Array, ...]]:
        """Every member's sources, copied when all have come."""
        return self.gather(lambda: tuple(np.array(view.array) for view in self.srcs))

    # -- rules ---------------------------------------------------------------------------------

    def check_operands(self, chip: Chip, *, sbuf: bool, most: int | None = None) -> None:
        """Tensors in HBM (several) or SBUF (one), as many written as read.

        sbuf: whether SBUF is allowed.  most: how many tensors may be given at most.
        """
        self.check_count(most)
        names = {f"srcs[{i}]": view for i, view in enumerate(self.srcs)}
        names |= {f"dsts[{i}]": view for i, view in enumerate(self.dsts)}
        rules.require_tensor(self.opcode, **names)
        allowed = (*_HBM, Space.sbuf) if sbuf else _HBM
        for name, view in names.items():
            rules.require_space(self.opcode, name, view, *allowed)
            if view.indirection is not None:
                raise NkiValidationError(
                    f"{self.opcode}: the rows of {name} are picked by an index tile",
                    allowed="plain tensors",
                )
        on_chip = {view.space.on_chip for view in names.values()}
        if len(on_chip) > 1:
            raise NkiValidationError(
                f"{self.opcode}: some tensors are in SBUF, some in HBM",
                allowed="all in HBM or all in SBUF",
            )
        if True in on_chip and len(self.srcs) > 1:
            raise NkiValidationError(
                f"{self.opcode}: {len(self.srcs)} tensors in SBUF", allowed="one, or several in HBM"
            )
        for src, dst in zip(self.srcs, self.dsts, strict=True):
            if src.dtype != dst.dtype:
                raise NkiValidationError(
                    f"{self.opcode}: src is {src.dtype}, dst {dst.dtype}", allowed="one dtype"
                )
        rules.require_priority(self.opcode, self.priority, chip)

    def check_count(self, most: int | None) -> None:
        if len(self.srcs) != len(self.dsts) or not self.srcs:
            raise NkiValidationError(
                f"{self.opcode}: {len(self.srcs)} srcs and {len(self.dsts)} dsts",
                allowed="the same number of each, one or more",
            )
        if most is not None and len(self.srcs) > most:
            raise NkiValidationError(
                f"{self.opcode}: {len(self.srcs)} tensors", allowed=f"{most} at a time"
            )

    def check_channels(
        self, chip: Chip, channel_ids: Sequence[int], more: Sequence[AccessPattern] = ()
    ) -> None:
        """One tensor for each of at most four channels, numbered from 0."""
        count = len(channel_ids)
        if tuple(channel_ids) != tuple(range(count)) or not 1 <= count <= 4:
            raise NkiValidationError(
                f"{self.opcode}: channel_ids {list(channel_ids)}",
                allowed="[0], [0, 1], [0, 1, 2] or [0, 1, 2, 3]",
            )
        self.check_count(None)
        if len(self.srcs) != count or (more and len(more) != count):
            raise NkiValidationError(
                f"{self.opcode}: {len(self.srcs)} source tensors for {count} channels",
                allowed="one tensor for each channel",
            )
        first = self.srcs[0]
        rules.require_tensor(self.opcode, srcs=first)
        for views in (self.srcs, more, self.dsts):
            for channel, view in enumerate(views):
                name = f"the tensor of channel {channel}"
                rules.require_tensor(self.opcode, **{name: view})
                rules.require_space(self.opcode, name, view, *_HBM, Space.sbuf)
                if (view.dtype, view.space.on_chip) != (first.dtype, first.space.on_chip):
                    raise NkiValidationError(
                        f"{self.opcode}: {name} is {view.dtype} in {view.space.value}, another "
                        f"{first.dtype} in {first.space.value}",
                        allowed="one dtype, and all in HBM or all in SBUF",
                    )
        rules.require_priority(self.opcode, self.priority, chip)

    def check_metadata(self, metadata: AccessPattern, rows: int) -> None:
        """uint32 (rows, ranks) in HBM, or (1, rows, ranks) in SBUF."""
        rules.require_tensor(self.opcode, metadata_tensor=metadata)
        rules.require_space(self.opcode, "metadata_tensor", metadata, *_HBM, Space.sbuf)
        wanted = (rows, self.group_size)
        shape = (1, *wanted) if metadata.space.on_chip else wanted
        if metadata.shape != shape or metadata.dtype != "uint32" or not metadata.is_contiguous():
            raise NkiValidationError(
                f"{self.opcode}: metadata_tensor is {metadata.dtype}{list(metadata.shape)}",
                allowed=f"uint32{list(shape)}, contiguous",
            )

    def check_dim(self, dim: int, *allowed: int) -> None:
        """The axis that is split or joined."""
        if dim not in allowed:
            raise NkiValidationError(
                f"{self.opcode}: collective_dim {dim}", allowed=" or ".join(map(str, allowed))
            )

    def check_reducer(self, op: AluOperator, dtype: str) -> None:
        """The operator is one that collectives have."""
        if op.name not in REDUCERS:
            raise NkiValidationError(
                f"{self.opcode}: op {op.name}", allowed="nl.add, nl.minimum, nl.maximum"
            )
        if dtype in mx.FORMATS:
            raise NkiValidationError(
                f"{self.opcode}: a reduction of {dtype}", allowed="dtypes of single numbers"
            )

    def check_shape(self, name: str, view: AccessPattern, wanted: Sequence[int]) -> None:
        """An operand has the shape that the others and the group demand."""
        if tuple(view.shape) != tuple(wanted):
            raise NkiValidationError(
                f"{self.opcode} among {self.group_size} ranks: {name} has shape {view.shape}",
                allowed=f"{tuple(wanted)}",
            )


def reduced(parts: Sequence[Array], op: AluOperator) -> Array:
    """Elementwise reduction in the order of the ranks: float32 for floats, exact for integers."""
    if parts[0].dtype.kind in "iu":
        total = parts[0].astype(np.int64)
        for part in parts[1:]:
            total = op.function(total, part.astype(np.int64))
        info = np.iinfo(parts[0].dtype)
        return np.clip(total, info.min, info.max).astype(parts[0].dtype)
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total = op.function(total, part.astype(np.float32))
    return total


def store(dst: AccessPattern, result: Array) -> None:
    """Write a result, rounded once where it is wider than dst."""
    if result.dtype == dst.array.dtype:
        dst.array[...] = result.reshape(dst.shape)
    else:
        values.write(dst, result)


def collective_work(
    signature: Signature, chip: Chip, *, received_bytes: float, passes: int = 1
) -> Work:
    """Steps of the algorithm that AWS uses for the size, and the bytes through the core's links.

    received_bytes: what this rank gets from others.  passes: 2 for an all-reduce, which scatters
    and then gathers. Mesh takes two steps a pass, recursive halving or doubling one step for
    each doubling of the ranks and one within the chip, KangaRing one for every second rank.
    """
    ranks = int(signature.params["group_size"])
    lnc = int(signature.params["lnc"])
    if ranks < 2:
        return Work(0.0, hbm_s=hbm_s(chip, signature))
    links = core_of(chip).links
    size = max(kind.total_bytes for kind in signature.operands.values())
    if size <= links.mesh_largest.value:
        steps = 2
    elif size <= links.halving_largest.value:
        steps = math.ceil(math.log2(ranks)) + 1
    else:
        steps = math.ceil(ranks / 2)
    transfer_s = passes * received_bytes / (links.bandwidth.value * lnc)
    latency_s = passes * steps * links.hop_latency.value
    return Work(transfer_s, latency_s, hbm_s=hbm_s(chip, signature))


def total_bytes(signature: Signature, operand: str) -> int:
    """Bytes of all tensors of "srcs" or "dsts"."""
    written = operand == "dsts"
    return sum(
        kind.total_bytes
        for name, kind in signature.operands.items()
        if name.startswith(operand) and (name in signature.writes) == written
    )


def others_share(signature: Signature) -> float:
    """The fraction (n-1)/n of a whole that n-1 of n ranks hold."""
    ranks = int(signature.params["group_size"])
    return (ranks - 1) / ranks


# -- chunks of sizes known at run time ---------------------------------------------------------


def chunk_of(opcode: str, src: AccessPattern, metadata: AccessPattern, column: int) -> Array:
    """A copy of src's elements that rows 0 and 1 of a column of the metadata name."""
    table = metadata.array.reshape(-1, metadata.shape[-1])
    count, start = int(table[0][column]), int(table[1][column])
    flat = np.array(src.array).reshape(-1)
    if start + count > flat.size:
        raise NkiValidationError(
            f"{opcode}: {count} elements from element {start} of a src of {flat.size}",
            allowed=f"elements 0..{flat.size - 1}",
            fix="mend the send counts and displacements of metadata_tensor",
        )
    return flat[start : start + count]


def place_chunk(opcode: str, dst: AccessPattern, start: int, chunk: Array) -> None:
    """Write a chunk into dst's elements from `start` on."""
    if start + len(chunk) > dst.size:
        raise NkiValidationError(
            f"{opcode}: {len(chunk)} elements arrive at element {start} of a dst of {dst.size}",
            allowed=f"elements 0..{dst.size - 1}",
            fix="make dst larger",
        )
    target = dst.array
    flat = target.reshape(-1)
    flat[start : start + len(chunk)] = chunk
    if not np.shares_memory(flat, target):
        target[...] = flat.reshape(target.shape)
