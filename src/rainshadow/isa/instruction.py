"""Knows what every instruction has in common: operands, rules, meaning, work, a registry.

Each instruction is one file in `isa.instructions`; recording and timing are left to `sim`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from rainshadow.errors import NotModelled
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.engine import Engine

if TYPE_CHECKING:
    from rainshadow.machine import Chip


@dataclass(frozen=True, slots=True)
class OperandKind:
    """What an operand's cost depends on, without its address.

    space: "sbuf", "psum" or "hbm".  partitions, elements: extent of axis 0, and elements per
    partition.  unit_stride: the innermost axis is contiguous.  run_bytes: bytes that lie
    contiguous in memory at the inner end.  start: first partition.
    """

    space: str
    dtype: str
    partitions: int
    elements: int
    unit_stride: bool
    run_bytes: int
    total_bytes: int
    start: int
    indirect: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """One kind of executed instruction: everything its cost may depend on, and no address.

    operands: by name; params: the instruction's immediate options. A Trace stores each distinct
    signature once.
    """

    opcode: str
    engine: str
    operands: Mapping[str, OperandKind]
    writes: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> OperandKind:
        return self.operands[name]

    def get(self, name: str) -> OperandKind | None:
        """The operand `name`, or None where this call gave a constant or nothing."""
        return self.operands.get(name)

    @property
    def dst(self) -> OperandKind:
        """The first operand written."""
        return self.operands[self.writes[0]]

    @property
    def partitions(self) -> int:
        return max((kind.partitions for kind in self.operands.values()), default=0)

    @property
    def elements(self) -> int:
        """Largest number of elements per partition among the operands."""
        return max((kind.elements for kind in self.operands.values()), default=0)

    def moved_bytes(self, space: str, *, written: bool) -> int:
        """Bytes this instruction writes to, or reads from, `space`."""
        return sum(
            kind.total_bytes
            for name, kind in self.operands.items()
            if kind.space == space and (name in self.writes) == written
        )

    @property
    def flops(self) -> int:
        """Useful floating-point operations: 2 per multiply-add of a matmul, else 0."""
        return flops_of(self)


@dataclass(frozen=True, slots=True)
class Work:
    """What an instruction costs its engine on one chip.

    occupancy_s: how long the engine, or each of the DMA engines it runs on, can start nothing
    else.  latency_s: how much longer until the result can be read.  table: activation table that
    must be loaded ("" for none).  preload_s: what the engine does before, while the previous
    instruction runs if there is one (TensorE loads the stationary operand).  cells: of TensorE's
    16 parts, bit 4 * row + column, those that it uses; 0 for all.  interval_s: until one on other
    cells can start.
    For DMA: issue_s: how long the triggering engine's descriptor generator is busy.  first_engine,
    num_engines: the DMA engines that move it, 0 for all.  hbm_s: its bytes of HBM at the core's
    share of the bandwidth.
    """

    occupancy_s: float
    latency_s: float = 0.0
    issue_s: float = 0.0
    table: str = ""
    preload_s: float = 0.0
    cells: int = 0
    interval_s: float = 0.0
    first_engine: int = 0
    num_engines: int = 0
    hbm_s: float = 0.0


class Instruction:
    """Base of the instruction dataclasses.

    Class attributes that an instruction file sets:
    opcode: the nki.isa name.  READS, WRITES: operand fields.  PARAMS: immediate fields that the
    rules or the cost depend on.  VALUES: what a kernel may give as a number, whose value and type
    the rules look at; flags are among them unasked.  INDIRECT: operands whose rows an index tile
    may pick.  COLUMNS: dst and others whose columns an index tile may pick on NeuronCore-v4, the
    first source second.
    EXAMPLE: a line of NKI.  MODULE: where NKI has it, "isa" or "collectives".  MEETS: other cores
    take part, and are waited for by meet() where no data are simulated.
    Methods: check(chip) raises NkiValidationError; meaning() does the arithmetic in NumPy and is
    the definition; work(signature, chip) returns Work; flops(signature) counts useful matmul flops.
    """

    __slots__ = ()
    opcode: ClassVar[str]
    READS: ClassVar[tuple[str, ...]]
    WRITES: ClassVar[tuple[str, ...]] = ("dst",)
    PARAMS: ClassVar[tuple[str, ...]] = ()
    VALUES: ClassVar[tuple[str, ...]] = ()
    INDIRECT: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[str, ...]] = ()
    EXAMPLE: ClassVar[str] = ""
    MODULE: ClassVar[str] = "isa"
    MEETS: ClassVar[bool] = False

    engine: Engine

    def check(self, chip: Chip) -> None:
        raise NotModelled(f"{self.opcode} has no rules")

    def meaning(self) -> None:
        raise NotModelled(f"{self.opcode} has no meaning")

    def meet(self) -> None:
        """Wait for the other cores, and move nothing."""

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        raise NotModelled(f"{signature.opcode} has no cost rule")

    @staticmethod
    def flops(signature: Signature) -> int:
        return 0


REGISTRY: dict[str, type[Instruction]] = {}


@dataclass(frozen=True, slots=True)
class Accessors:
    """Field getters of one instruction class, made once.

    fields: options (the engine and `PARAMS`), then what is written, then what is read.  flags:
    names of the fields that are True or False.  numbers: of `VALUES` and `flags`, None without any.
    """

    fields: Callable[[Any], tuple[Any, ...]]
    num_options: int
    num_writes: int
    reads: Callable[[Any], tuple[Any, ...]]
    writes: Callable[[Any], tuple[Any, ...]]
    numbers: Callable[[Any], tuple[Any, ...]] | None
    flags: tuple[str, ...]


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        single = attrgetter(names[0])
        return lambda instance: (single(instance),)
    return attrgetter(*names)


def _numbers_getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    get = _getter(names)
    # Equal numbers of different types, such as 1 and Decimal(1), obey different rules.
    return lambda instance: tuple(
        None if type(value) is AccessPattern else (type(value), value) for value in get(instance)
    )


ACCESSORS: dict[type[Instruction], Accessors] = {}


InstructionClass = TypeVar("InstructionClass", bound=type[Instruction])


def instruction(cls: InstructionClass) -> InstructionClass:
    """Register an instruction class under its opcode."""
    REGISTRY[cls.opcode] = cls
    options = ("opcode", "engine", *cls.PARAMS)  # two at least: attrgetter then gives a tuple
    flags = tuple(entry.name for entry in fields(cls) if entry.type == "bool")  # type: ignore[arg-type]
    ACCESSORS[cls] = Accessors(
        attrgetter(*options, *cls.WRITES, *cls.READS),
        len(options),
        len(cls.WRITES),
        _getter(cls.READS),
        _getter(cls.WRITES),
        _numbers_getter((*cls.VALUES, *flags)) if cls.VALUES or flags else None,
        flags,
    )
    return cls


@cache
def load_instructions() -> Mapping[str, type[Instruction]]:
    """Every instruction, by opcode: the folder `isa.instructions` is the registry."""
    package = importlib.import_module("rainshadow.isa.instructions")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return REGISTRY


def describe_operand(view: AccessPattern) -> OperandKind:
    """The kind of a live operand."""
    space = view.space.value if view.space.on_chip else "hbm"
    run = view.contiguous_run()
    return OperandKind(
        space=space,
        dtype=str(view.dtype),  # a plain string, also where the kernel said nl.float32
        partitions=view.shape[0],
        elements=view.elements,
        unit_stride=view.shape[-1] == 1 or view.strides[-1] == 1,
        run_bytes=run * view.itemsize,
        total_bytes=view.size * view.itemsize,
        start=view.start_partition,
        indirect=view.indirection is not None,
    )


def make_signature(instr: Instruction) -> Signature:
    """The signature of a live instruction."""
    cls = type(instr)
    operands: dict[str, OperandKind] = {}
    writes: list[str] = []
    for name in cls.WRITES + cls.READS:
        before = len(operands)
        value = getattr(instr, name)
        if isinstance(value, AccessPattern):
            operands[name] = describe_operand(value)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                operands[f"{name}{index}"] = describe_operand(item)
        if name in cls.WRITES:
            writes.extend(list(operands)[before:])
    params = {name: _plain(getattr(instr, name)) for name in cls.PARAMS}
    return Signature(cls.opcode, instr.engine.name, operands, tuple(writes), params)


def _plain(value: Any) -> Any:
    """Options as JSON can hold them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type):
        return str(value)  # a dtype
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else value


def work_of(signature: Signature, chip: Chip) -> Work:
    """Cost of a signature on a chip.

    Errors: `NotModelled` for an opcode without a cost rule: never zero.
    """
    cls = load_instructions().get(signature.opcode)
    if cls is None:
        raise NotModelled(
            f"instruction {signature.opcode!r} has no cost rule",
            fix=f"add isa/instructions/{signature.opcode}.py",
        )
    return cls.work(signature, chip)


def flops_of(signature: Signature) -> int:
    """Useful matmul floating-point operations of one execution."""
    cls = load_instructions().get(signature.opcode)
    return cls.flops(signature) if cls is not None else 0
